// Sends with the unmodified @segment/analytics-node to a host, and prints as one line of JSON what
// was called and what the SDK reported:
//
//   node send.mjs --host http://127.0.0.1:6066 --write-key wk_... [--events 25] [--user u_node]
//                 [--flush-at 15] [--retries 10]
//
// One call of each kind, then as many `track` calls as --events says.

import { parseArgs } from "node:util";
import { Analytics } from "@segment/analytics-node";

const { values: given } = parseArgs({
  options: {
    host: { type: "string" },
    "write-key": { type: "string" },
    events: { type: "string", default: "25" },
    user: { type: "string", default: "u_node" },
    "flush-at": { type: "string", default: "15" },
    retries: { type: "string", default: "10" },
  },
});

const analytics = new Analytics({
  host: given.host,
  writeKey: given["write-key"],
  flushAt: Number(given["flush-at"]),
  flushInterval: 200,
  maxRetries: Number(given.retries),
});

const errors = [];
const responses = [];
analytics.on("error", (error) => errors.push(String(error.reason ?? error.code ?? error)));
analytics.on("http_response", (response) => responses.push(response.status));

const userId = given.user;
const anonymousId = `anon-${userId}`;
let called = 0;
const call = (kind, fields) => {
  analytics[kind](fields);
  called += 1;
};

call("page", { anonymousId, name: "Home", category: "Shop", properties: { url: "https://shop.example.org/" } });
call("track", { anonymousId, event: "Product Viewed", properties: { product_id: "p1", price: 79.95 } });
call("identify", {
  userId, anonymousId,
  traits: { email: `${userId}@example.org`, createdAt: new Date("2026-01-05T09:00:00.000Z"), ünï: "çødé 😀" },
});
call("screen", { userId, name: "Cart", properties: { items: 2 } });
call("group", { userId, groupId: "acme", traits: { employees: 12 } });
call("alias", { userId, previousId: anonymousId });
for (let n = 0; n < Number(given.events); n += 1) {
  call("track", {
    userId, event: "Order Completed", messageId: `${userId}-order-${n}`,
    timestamp: new Date("2026-01-05T09:00:00.000Z"),
    properties: { revenue: n, n }, integrations: { All: true },
  });
}

await analytics.closeAndFlush({ timeout: 60000 });
console.log(JSON.stringify({ called, errors, responses }));
