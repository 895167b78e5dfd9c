// What the scripts of the page share.

import {by} from "./elements.js";

export const say = (text) => { by("status").textContent = text; };

// kind: classes to paint, a pen for lines, or photos to upload; brushes: names and RGB, the first is the empty canvas; line: the pen's width;
// height, width; channels: 1, 3, or "classes", one for each brush; answers: how many; latent: numbers of z, or 0; masks: shapes of the
// dropout masks by name; encoder: whether there is one; encoded_size, encoded_channels: of its input; name; examples: how many
export const settings = JSON.parse(by("settings").textContent);
export const colours = settings.brushes.map(({colour}) => colour);
