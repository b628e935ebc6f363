/** Waiting for what is painted, frame by frame. */

/** Resolves once `isReady()`; whether that came before `isWanted()` ended. */
export async function whenReady(isReady, isWanted) {
  // What was just asked for shows in the next frame but one.
  await nextFrame();
  await nextFrame();
  while (isWanted() && !isReady()) await nextFrame();
  return isWanted();
}

function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(resolve));
}
