// An application that asks serin for flags through OpenFeature's own providers for Node.js.
//
//   node client.mjs FOLDER server|polls|listens URL TOKEN
//
// FOLDER holds node_modules. `server` asks for each flag by itself; `polls` and `listens` keep the
// answers of one user, as a page in a browser does, and learn of changes so. Each line of the input
// is a question in JSON, and each line of the output its answer; the first line says that it is ready.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, mode, baseUrl, token] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const headers = [['Authorization', `Bearer ${token}`]];

/** What browsers have and Node.js doesn't, as far as a provider needs it; with the token. */
class EventSource {
  constructor(url) {
    this.stop = new AbortController();
    this.listen(url).catch((error) => this.onerror?.(error));
  }

  async listen(url) {
    const { signal } = this.stop;
    const response = await fetch(url, { headers, signal });
    this.onopen?.({});
    let text = '';
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) {
        const data = event.split('\n').find((line) => line.startsWith('data: '));
        if (data) this.tell({ type: 'message', data: data.slice('data: '.length) });
      }
    }
  }

  tell(event) {
    this.onmessage?.(event);
    this.listeners?.forEach((listener) => listener(event));
  }

  addEventListener(type, listener) {
    if (type === 'message') (this.listeners ??= []).push(listener);
  }

  removeEventListener() {}

  close() {
    this.stop.abort();
  }
}

async function serverSide() {
  const { OpenFeature } = require('@openfeature/server-sdk');
  const { OFREPProvider } = require('@openfeature/ofrep-provider');
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, headers }));
  return { OpenFeature, about: async () => {} };
}

async function inThePage() {
  globalThis.EventSource = EventSource;
  const { OpenFeature } = require('@openfeature/web-sdk');
  const { OFREPWebProvider } = require('@openfeature/ofrep-web-provider');
  const how = mode === 'listens' ? { changeDetection: 'sse' } : { changeDetection: 'polling', pollInterval: 50 };
  const provider = new OFREPWebProvider({ baseUrl, headers, cacheMode: 'disabled', ...how });
  await OpenFeature.setProviderAndWait(provider);
  return { OpenFeature, about: (context) => OpenFeature.setContext(context) };
}

const { OpenFeature, about } = await (mode === 'server' ? serverSide() : inThePage());
const client = OpenFeature.getClient();
const ask = {
  boolean: (...question) => client.getBooleanDetails(...question),
  string: (...question) => client.getStringDetails(...question),
  number: (...question) => client.getNumberDetails(...question),
  object: (...question) => client.getObjectDetails(...question),
};

console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  const { type, key, otherwise, context } = JSON.parse(line);
  if (context) await about(context);
  const whom = mode === 'server' ? [context] : [];
  console.log(JSON.stringify(await ask[type](key, otherwise, ...whom)));
}
process.exit(0);
