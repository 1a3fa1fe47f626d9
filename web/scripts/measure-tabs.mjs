// Measures how long it takes until another tab leads after the leading one was closed or has crashed, in Chromium against a real server,
// while three tabs and somebody else send: npm run measure [deaths], after make build.
import { killLeaders } from "../test/leader.mjs";
import { browser, Server } from "../test/world.mjs";

const [deaths = 40] = process.argv.slice(2).map(Number);
const server = new Server();
await server.start();
const b = await browser();
try {
  const { led, sent } = await killLeaders(b, server, deaths);
  const said = (times) => {
    const sorted = times.sort((a, b) => a - b);
    return `${sorted[Math.floor(sorted.length / 2)]} ms, the worst ${sorted.at(-1)} ms`;
  };
  console.log(`the leading tab dies, ${deaths} times: another one leads after ${said(led)}`);
  console.log(`a message that was handed to a tab just then is stored after ${said(sent)}`);
} finally {
  await b.close();
  await server.remove();
}
