// Streams every *-step-*.onnx of a folder through onnxruntime-web and prints the relative errors.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import * as ort from "onnxruntime-web";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
const folder = process.argv[2];
const errors = {};
for (const file of readdirSync(folder).filter((name) => /-step-.*\.onnx$/.test(name))) {
  const held = JSON.parse(readFileSync(join(folder, file.replace(".onnx", ".json"))));
  const session = await ort.InferenceSession.create(readFileSync(join(folder, file)), {
    executionProviders: ["wasm"],
  });
  let state = new ort.Tensor("float32", new Float32Array(held.state), [1, held.state]);
  let largest = 0;
  let difference = 0;
  const width = held.y.length / held.x.length;
  for (let t = 0; t < held.x.length; t++) {
    const x = new ort.Tensor("float32", Float32Array.of(held.x[t]), [1, 1]);
    const answer = await session.run({ x, state });
    state = answer.next_state;
    for (let k = 0; k < width; k++) {
      const wanted = held.y[t * width + k];
      largest = Math.max(largest, Math.abs(wanted));
      difference = Math.max(difference, Math.abs(answer.y.data[k] - wanted));
    }
  }
  errors[file.replace(".onnx", "")] = difference / largest;
}
const require = createRequire(import.meta.url);
const entry = require.resolve("onnxruntime-web");
const home = entry.slice(0, entry.indexOf("onnxruntime-web") + "onnxruntime-web".length);
const version = JSON.parse(readFileSync(join(home, "package.json"))).version;
console.log(JSON.stringify([version, errors]));
