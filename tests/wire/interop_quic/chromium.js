"use strict";
// `node chromium.js CHROMIUM ORIGIN SPKI RUN TOKEN`: load /healthz over QUIC, follow the run's events from that page, and
// print a line of JSON: the browser, the page, the protocols, and the events.

const { chromium } = require("playwright-core");

const [executablePath, origin, spki, run, token] = process.argv.slice(2);

async function follow({ path, token }) {
  const response = await fetch(path, { headers: { authorization: `Bearer ${token}` } });
  let text = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) text += chunk;
  const [entry] = performance.getEntriesByName(new URL(path, location.href).href);
  return { status: response.status, type: response.headers.get("content-type"), text, protocol: entry.nextHopProtocol };
}

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--enable-quic",
      `--origin-to-force-quic-on=${new URL(origin).host}`,
      `--ignore-certificate-errors-spki-list=${spki}`,
      "--host-resolver-rules=MAP localhost 127.0.0.1",
      "--disable-gpu",
      "--disable-component-update",
    ],
  });
  try {
    const page = await browser.newPage({ bypassCSP: true }); // no page of ours may fetch from /healthz; this one stands in for one
    const health = await page.goto(`${origin}/healthz`);
    const navigation = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
    const events = await page.evaluate(follow, { path: `/api/v1/runs/${run}/events`, token });
    const healthz = { status: health.status(), text: await health.text(), protocol: navigation };
    console.log(JSON.stringify({ version: browser.version(), healthz, events }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
