// An application with the middleware that docs/flags.md shows, word for word: it reads flags from a local Redis.
//
//   node middleware.mjs FOLDER PAGE URL NAMESPACE
//
// FOLDER holds node_modules, PAGE the middleware: its server and namespace are replaced by URL and NAMESPACE. Each
// line of the input is a request, and each line of the output what the middleware made of it; the first line says that
// it is ready.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, page, url, namespace] = process.argv.slice(2);
const { createClient } = createRequire(`${folder}/`)('redis');

const examples = readFileSync(page, 'utf8').split('```js\n').slice(1).map((rest) => rest.split('```')[0]);
const example = examples.find((code) => code.includes('createClient'));
const code = example.replace('redis://127.0.0.1:6380', url).replace('{production}', `{${namespace}}`);

let middleware;
const app = { use: (given) => { middleware = given; } };
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
await new AsyncFunction('createClient', 'app', code)(createClient, app);

console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  const req = {};
  await new Promise((next, fail) => { middleware(req, {}, next).catch(fail); });
  console.log(JSON.stringify({ value: req.newEditor }));
}
process.exit(0);
