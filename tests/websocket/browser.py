"""A page in a browser that nobody here wrote: Chromium, driven by Playwright.

    python browser.py URL

Opens the page at URL, has it talk by a WebSocket to where it came from, and prints what came of it as JSON.
"""

import json
import sys

from playwright.sync_api import sync_playwright

TALK = """async () => {
    const socket = new WebSocket(`wss://${location.host}/who`);
    socket.binaryType = "arraybuffer";
    const next = () => new Promise((heard, failed) => {
        socket.onmessage = (message) => heard(message.data);
        socket.onclose = (closed) => failed(new Error(`closed with ${closed.code}`));
    });
    const version = await next();
    const said = crypto.getRandomValues(new Uint8Array(65536));
    const answer = next();
    socket.send(said);
    const heard = new Uint8Array(await answer);
    const closed = new Promise((ended) => { socket.onclose = (event) => ended([event.code, event.wasClean]); });
    socket.close(4000, "enough");
    return {
        page: document.body.textContent.trim(),
        version,
        whole: heard.length === said.length && heard.every((byte, at) => byte === said[at]),
        closed: await closed,
    };
}"""

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    # The authority is the test's own.
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(sys.argv[1])
    print(json.dumps(page.evaluate(TALK)))
    browser.close()
