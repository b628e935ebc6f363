/** The slide: OpenSeadragon, its scale bar, and a canvas over it on which the layers are drawn. */

import { lengthText, roundLength } from "./geometry.js";
import { path } from "./server.js";

const SCALE_BAR_PX = 150;
const SETTLED_MS = 150;

export class SlideView {
  #viewer;
  #canvas = document.createElement("canvas");
  #scale;
  #isPlanned = false;
  #settling = null;
  #opening = Promise.resolve();

  /**
   * `draw(context, place)` paints the layers, where place is {scale, x, y}: screen = level0 * scale + (x, y);
   * `settled()` is called once the view has come to rest; `clicked(x, y)` gets level-0 px.
   */
  constructor(element, scale, { draw, settled, clicked }) {
    keepStyleOut();
    this.#scale = scale;
    this.slide = null;
    this.draw = draw;
    this.settled = settled;
    this.#viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: "TOP_RIGHT",
      navigatorSizeRatio: 0.16,
      navigatorAutoFade: false,
      keyboardNavEnabled: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      animationTime: 0.4,
      maxZoomPixelRatio: 4,
      visibilityRatio: 0.3,
      imageLoaderLimit: 6,
      maxImageCacheCount: 400,
      timeout: 30000,
    });
    this.#canvas.className = "layers";
    this.#viewer.canvas.append(this.#canvas);
    this.#viewer.addHandler("update-viewport", () => this.#moved());
    this.#viewer.addHandler("resize", () => this.#moved());
    this.#viewer.addHandler("canvas-click", (event) => event.quick && clicked(...this.#level0(event.position)));
  }

  /** Show a slide of GET /api/slides; whether it was another one before. */
  open(slide) {
    // One after the other: OpenSeadragon does not say which slide it has opened.
    this.#opening = this.#opening.then(() => this.#open(slide));
    return this.#opening;
  }

  #open(slide) {
    if (slide.slide_id === this.slide?.slide_id) return false;
    this.slide = slide;
    const { width, height, tile_px: tileSize, overlap: tileOverlap, min_level: minLevel, max_level: maxLevel } = slide;
    const getTileUrl = (level, column, row) => path("tiles", slide.slide_id, String(level), `${column}_${row}.jpeg`);
    return new Promise((resolve) => {
      this.#viewer.addOnceHandler("open", () => resolve(true));
      this.#viewer.open({ width, height, tileSize, tileOverlap, minLevel, maxLevel, getTileUrl });
    });
  }

  close() {
    this.#opening = this.#opening.then(() => {
      this.slide = null;
      this.#viewer.close();
      this.redraw();
    });
  }

  get isOpen() {
    return this.slide !== null && this.#viewer.world.getItemCount() > 0;
  }

  /** Bring a box in level-0 px to fill the view, with some room around it. */
  fit([x, y, width, height], isAtOnce = false) {
    if (!this.isOpen) return;
    const room = 0.06 * Math.max(width, height);
    const box = this.#viewer.viewport.imageToViewportRectangle(
      x - room,
      y - room,
      width + 2 * room,
      height + 2 * room,
    );
    this.#viewer.viewport.fitBounds(box, isAtOnce);
  }

  fitSlide() {
    if (this.isOpen) this.#viewer.viewport.goHome();
  }

  zoomBy(factor) {
    if (!this.isOpen) return;
    this.#viewer.viewport.zoomBy(factor);
    this.#viewer.viewport.applyConstraints();
  }

  /** While an outline is drawn, two quick clicks are two points. */
  set isDrawing(isDrawing) {
    this.#viewer.gestureSettingsMouse.dblClickToZoom = !isDrawing;
    this.#viewer.canvas.classList.toggle("is-drawing", isDrawing);
  }

  /** {scale, x, y} of the view now. */
  get place() {
    const viewport = this.#viewer.viewport;
    const corner = viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    return { scale: viewport.viewportToImageZoom(viewport.getZoom(true)), x: corner.x, y: corner.y };
  }

  /** The box in level-0 px that is seen, beyond the slide's edges too. */
  get visibleBox() {
    const { scale, x, y } = this.place;
    const { clientWidth, clientHeight } = this.#viewer.canvas;
    return [-x / scale, -y / scale, clientWidth / scale, clientHeight / scale];
  }

  get widthPx() {
    return Math.max(this.#viewer.canvas.clientWidth, this.#viewer.canvas.clientHeight) * window.devicePixelRatio;
  }

  /** Paint the layers again, at most once a frame. */
  redraw() {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    requestAnimationFrame(() => {
      this.#isPlanned = false;
      this.#paint();
    });
  }

  #moved() {
    this.#paint();
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.isOpen && this.settled(), SETTLED_MS);
  }

  #paint() {
    const { clientWidth, clientHeight } = this.#viewer.canvas;
    const ratio = window.devicePixelRatio;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    const context = this.#canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#scale.hidden = !this.isOpen || !this.slide.mpp;
    if (!this.isOpen) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const place = this.place;
    this.draw(context, place);
    if (this.slide.mpp) this.#showScale(place.scale);
  }

  #showScale(scale) {
    const umPerPx = this.slide.mpp / scale;
    const um = roundLength(SCALE_BAR_PX * umPerPx);
    this.#scale.firstElementChild.style.width = `${um / umPerPx}px`;
    this.#scale.lastElementChild.textContent = lengthText(um);
  }

  #level0(position) {
    if (!this.isOpen) return [NaN, NaN];
    const { scale, x, y } = this.place;
    return [(position.x - x) / scale, (position.y - y) / scale];
  }
}

/**
 * OpenSeadragon writes a style into the page unless it finds one, which the content security policy forbids (the rule
 * stands in review.css). What it finds is an element of that name that is no style.
 */
function keepStyleOut() {
  const mark = document.createElementNS(null, "style");
  mark.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(mark);
}
