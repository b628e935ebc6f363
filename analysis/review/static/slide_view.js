/** The slide: OpenSeadragon, its scale bar, and a canvas over it on which the layers are drawn. */

import { lengthText, roundLength } from "./geometry.js";
import { magnificationOf, umPerPxOf } from "./magnification.js";
import { Place } from "./place.js";
import { path, urlOf } from "./server.js";

const SCALE_BAR_PX = 150;
const SETTLED_MS = 150;
const FINEST_UM_PER_PX = 0.125; // 80x

export class SlideView {
  #viewer;
  #canvas = document.createElement("canvas");
  #scale;
  #isPlanned = false;
  #settling = null;
  #opening = Promise.resolve();
  #hasProfile = true;

  /**
   * `draw(context, place)` paints the layers; `settled()` is called once the view has come to rest, `moved(view)` at
   * every step; `hand` gets what pointers do in level-0 px: press, drag, release, click, doubleClick and hover, of
   * which those that return true are its own, and do not move the view. `overview` is an element beside the picture.
   */
  constructor(element, scale, { draw, settled, moved = () => {}, hand = {}, overview = null }) {
    keepStyleOut();
    this.#scale = scale;
    this.slide = null;
    this.draw = draw;
    this.settled = settled;
    this.moved = moved;
    this.#viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: overview !== null,
      navigatorElement: overview ?? undefined,
      navigatorAutoFade: false,
      navigatorRotate: true,
      keyboardNavEnabled: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
      // A slide of a millimetre is seen at 1x, too, though it is small then.
      minZoomImageRatio: 0.05,
      // A panel that is folded changes no magnification.
      preserveImageSizeOnResize: true,
      visibilityRatio: 0.3,
      imageLoaderLimit: 24, // those that were fetched ahead come at once; of the others the browser asks for six
      maxTilesPerFrame: 64, // one a frame would keep tiles waiting that are here already
      maxImageCacheCount: 400,
      timeout: 30000,
    });
    this.#canvas.className = "layers";
    this.#viewer.canvas.append(this.#canvas);
    for (const event of ["update-viewport", "resize", "rotate", "flip"]) {
      this.#viewer.addHandler(event, () => this.#moved());
    }
    this.#listen(hand);
  }

  #listen(hand) {
    // OpenSeadragon mirrors the positions of some events and not of others: the browser's own count here.
    const at = ({ clientX, clientY }) => {
      const { left, top } = this.#viewer.canvas.getBoundingClientRect();
      return this.place.level0([clientX - left, clientY - top]);
    };
    const pass = (event, act) => {
      this.#viewer.addHandler(event, (happened) => {
        const { originalEvent } = happened;
        // With the shift key the slide is moved, whatever tool is in the hand.
        if (!this.isOpen || originalEvent.shiftKey) return;
        if (act(at(originalEvent), happened)) happened.preventDefaultAction = true;
      });
    };
    pass("canvas-press", (point, { pointerType }) => hand.press?.(point, { isTouch: pointerType === "touch" }));
    pass("canvas-drag", (point) => hand.drag?.(point));
    pass("canvas-drag-end", () => hand.isHolding?.());
    pass("canvas-release", (point) => hand.release?.(point));
    pass("canvas-click", (point, { quick }) => quick && hand.click?.(point));
    pass("canvas-double-click", (point) => hand.doubleClick?.(point));
    this.#viewer.addHandler("canvas-pinch", () => hand.pinch?.());
    this.#viewer.canvas.addEventListener("pointermove", (event) => {
      if (this.isOpen && !event.buttons) hand.hover?.(at(event));
    });
  }

  /** Show a slide of GET /api/slides; whether it was another one before. */
  open(slide) {
    // One after the other: OpenSeadragon does not say which slide it has opened.
    this.#opening = this.#opening.then(() => this.#open(slide));
    return this.#opening;
  }

  #open(slide, isAnew = false) {
    if (slide.slide_id === this.slide?.slide_id && !isAnew) return false;
    this.slide = slide;
    const { width, height, tile_px: tileSize, overlap: tileOverlap, min_level: minLevel, max_level: maxLevel } = slide;
    const getTileUrl = (level, column, row) => this.tileAddress(slide, level, column, row);
    // As far as 80x, where the scale is known; a scanner's own pixels may become larger than the screen's then.
    this.#viewer.viewport.maxZoomPixelRatio = slide.mpp ? Math.max(4, slide.mpp / FINEST_UM_PER_PX) : 4;
    return new Promise((resolve) => {
      this.#viewer.addOnceHandler("open", () => resolve(true));
      this.#viewer.open({ width, height, tileSize, tileOverlap, minLevel, maxLevel, getTileUrl });
    });
  }

  /** Where a tile of a slide is had, in the colours that are shown. */
  tileAddress({ slide_id: slideId }, level, column, row) {
    return urlOf(path("tiles", slideId, String(level), `${column}_${row}.jpeg`) + (this.#hasProfile ? "" : "?profile=no"));
  }

  /** Whether every tile of the view is there; true of the view before until a frame was drawn. */
  get isLoaded() {
    return this.isOpen && this.#viewer.world.getItemAt(0).getFullyLoaded();
  }

  close() {
    this.#opening = this.#opening.then(() => {
      this.slide = null;
      this.#viewer.close();
      this.redraw();
    });
    return this.#opening;
  }

  get isOpen() {
    return this.slide !== null && this.#viewer.world.getItemCount() > 0;
  }

  /** Whether the scanner's colour profile is applied to the tiles; where this changes they are fetched anew. */
  get hasProfile() {
    return this.#hasProfile;
  }

  set hasProfile(has) {
    if (has === this.#hasProfile) return;
    this.#hasProfile = has;
    if (!this.slide) return;
    const { view } = this;
    this.#opening = this.#opening.then(() => this.#open(this.slide, true)).then(() => (this.view = view));
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

  /** Move by shares of the view, to the right and down on the screen. */
  panBy(right, down) {
    if (!this.isOpen) return;
    const { size, centre } = this.place;
    const [x, y] = this.place.level0([size[0] * (0.5 + right), size[1] * (0.5 + down)]);
    const { viewport } = this.#viewer;
    const by = viewport.imageToViewportCoordinates(x, y).minus(viewport.imageToViewportCoordinates(...centre));
    viewport.panBy(by);
    viewport.applyConstraints();
  }

  /** Turn clockwise as it is seen, also where it is mirrored. */
  turnTo(degrees) {
    this.#viewer.viewport.setRotation((this.isMirrored ? 360 - degrees : degrees) % 360, true);
  }

  get degrees() {
    const degrees = this.#viewer.viewport.getRotation(true);
    return Math.round(((((this.isMirrored ? -degrees : degrees) % 360) + 360) % 360) * 10) / 10;
  }

  get isMirrored() {
    return this.#viewer.viewport.getFlip();
  }

  mirror() {
    this.#viewer.viewport.toggleFlip();
  }

  /** um of the slide per px of the screen; null where the slide has no scale. */
  get umPerPx() {
    return this.isOpen && this.slide.mpp ? this.slide.mpp / this.place.scale : null;
  }

  /** Zoom about the middle to a magnification; 10x is 1 um per px of the screen. */
  magnifyTo(magnification) {
    const { umPerPx } = this;
    if (umPerPx) this.zoomBy(umPerPx / umPerPxOf(magnification));
  }

  /** What is seen: centre in level-0 px, screen px per level-0 px, and how it lies. */
  get view() {
    const { scale, centre } = this.place;
    const { viewport } = this.#viewer;
    return { scale, centre, rotation: viewport.getRotation(true), isMirrored: viewport.getFlip() };
  }

  set view({ scale, centre, rotation, isMirrored }) {
    if (!this.isOpen) return;
    const { viewport } = this.#viewer;
    viewport.setRotation(rotation, true);
    viewport.setFlip(isMirrored);
    viewport.zoomTo(viewport.imageToViewportZoom(scale), null, true);
    viewport.panTo(viewport.imageToViewportCoordinates(...centre), true);
  }

  /** While something is drawn, two quick clicks are two points. */
  set isDrawing(isDrawing) {
    this.#viewer.gestureSettingsMouse.dblClickToZoom = !isDrawing;
    this.#viewer.gestureSettingsTouch.dblClickToZoom = !isDrawing;
    // A stroke that ends quickly must not throw the slide aside.
    this.#viewer.gestureSettingsTouch.flickEnabled = !isDrawing;
    this.#viewer.canvas.classList.toggle("is-drawing", isDrawing);
  }

  /** Where level 0 lies on the screen now. */
  get place() {
    const { viewport } = this.#viewer;
    const centre = viewport.viewportToImageCoordinates(viewport.getCenter(true));
    const { clientWidth, clientHeight } = this.#viewer.canvas;
    return new Place({
      scale: viewport.viewportToImageZoom(viewport.getZoom(true)),
      degrees: viewport.getRotation(true),
      isMirrored: viewport.getFlip(),
      centre: [centre.x, centre.y],
      size: [clientWidth, clientHeight],
    });
  }

  /** The box in level-0 px that is seen, beyond the slide's edges too. */
  get visibleBox() {
    return this.place.seenBox;
  }

  get widthPx() {
    return Math.max(this.#viewer.canvas.clientWidth, this.#viewer.canvas.clientHeight) * window.devicePixelRatio;
  }

  /** The canvases of the tiles: the slide's, and the overview's. */
  get tileCanvases() {
    return [this.#viewer.drawer.canvas, this.#viewer.navigator?.drawer.canvas].filter(Boolean);
  }

  /** Tiles and layers as two canvases of the same part of the slide. */
  get canvases() {
    this.#paint();
    return { tiles: this.#viewer.drawer.canvas, layers: this.#canvas };
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
    if (this.isOpen) this.moved(this);
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
    this.draw(context, this.place);
    if (this.slide.mpp) this.#showScale();
  }

  #showScale() {
    const { umPerPx } = this;
    const um = roundLength(SCALE_BAR_PX * umPerPx);
    const [line, text, magnification] = this.#scale.children;
    line.style.width = `${um / umPerPx}px`;
    text.textContent = lengthText(um);
    magnification.textContent = `${magnificationOf(umPerPx)} \u00b7 ${Number(umPerPx.toPrecision(3))} \u00b5m/px`;
  }
}

/**
 * OpenSeadragon writes a style into the page unless it finds one, which the content security policy forbids (the rule
 * stands in review.css). What it finds is an element of that name that is no style.
 */
function keepStyleOut() {
  if (document.querySelector("[data-openseadragon-mobile-css]")) return;
  const mark = document.createElementNS(null, "style");
  mark.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(mark);
}
