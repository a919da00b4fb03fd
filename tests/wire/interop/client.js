"use strict";
// The cases with @grpc/grpc-js as the client: `node client.js PORT` prints a line for each, `ok` or `FAILED`.

const assert = require("node:assert/strict");
const { ECHO_INITIAL, ECHO_TRAILING, grpc, testing } = require("./testing");

const WITHIN_MS = 10_000;
const REQUESTS = [27182, 8, 1828, 45904];
const REPLIES = [31415, 9, 2653, 58979];
const STATUS = { code: grpc.status.UNKNOWN, message: "test status message" };
const SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

const address = `127.0.0.1:${process.argv[2]}`;
const client = new testing.TestService(address, grpc.credentials.createInsecure());

const zeros = (size) => ({ body: Buffer.alloc(size) });
const sizes = (replies) => replies.map((reply) => reply.payload.body.length);
const ordering = (size, payload) => ({ response_parameters: [{ size }], payload: zeros(payload) });

/** How a call ends: its status, with the trailing metadata, and the initial metadata. */
function ended(call) {
  return new Promise((resolve) => {
    let initial;
    call.on("metadata", (metadata) => (initial = metadata));
    call.on("error", () => {}); // the status says it too
    call.on("status", (status) => resolve({ ...status, initial }));
  });
}

async function unary(method, request, metadata = new grpc.Metadata(), of = client) {
  let reply;
  const end = await ended(of[method](request, metadata, (_, message) => (reply = message)));
  return { ...end, reply };
}

async function duplex(requests, metadata = new grpc.Metadata()) {
  const call = client.FullDuplexCall(metadata);
  const end = ended(call);
  const replies = [];
  call.on("data", (reply) => replies.push(reply));
  requests.forEach((request) => call.write(request));
  call.end();
  return { ...(await end), replies };
}

function assertOk(end) {
  assert.equal(end.code, grpc.status.OK, end.details);
}

const cases = {
  async empty_unary() {
    const end = await unary("EmptyCall", {});
    assertOk(end);
    assert.deepEqual(end.reply, {});
  },

  async large_unary() {
    const end = await unary("UnaryCall", { response_size: 314159, payload: zeros(271828) });
    assertOk(end);
    assert.deepEqual(end.reply.payload.body, Buffer.alloc(314159));
  },

  async client_streaming() {
    let reply;
    const call = client.StreamingInputCall((_, message) => (reply = message));
    const end = ended(call);
    REQUESTS.forEach((size) => call.write({ payload: zeros(size) }));
    call.end();
    assertOk(await end);
    assert.equal(reply.aggregated_payload_size, 74922);
  },

  async server_streaming() {
    const call = client.StreamingOutputCall({ response_parameters: REPLIES.map((size) => ({ size })) });
    const end = ended(call);
    const replies = [];
    call.on("data", (reply) => replies.push(reply));
    assertOk(await end);
    assert.deepEqual(sizes(replies), REPLIES);
  },

  async ping_pong() {
    const call = client.FullDuplexCall();
    const end = ended(call);
    const replies = call[Symbol.asyncIterator]();
    for (const [turn, size] of REPLIES.entries()) {
      call.write(ordering(size, REQUESTS[turn]));
      assert.deepEqual(sizes([(await replies.next()).value]), [size]);
    }
    call.end();
    assert.ok((await replies.next()).done);
    assertOk(await end);
  },

  async empty_stream() {
    const end = await duplex([]);
    assertOk(end);
    assert.deepEqual(end.replies, []);
  },

  async cancel_after_begin() {
    const call = client.StreamingInputCall(() => {});
    const end = ended(call);
    call.on("metadata", () => call.cancel()); // the server's handler has begun
    assert.equal((await end).code, grpc.status.CANCELLED);
  },

  async cancel_after_first_response() {
    const call = client.FullDuplexCall();
    const end = ended(call);
    call.on("data", () => call.cancel());
    call.write(ordering(REPLIES[0], REQUESTS[0]));
    assert.equal((await end).code, grpc.status.CANCELLED);
  },

  async timeout_on_sleeping_server() {
    const call = client.FullDuplexCall({ deadline: Date.now() + 1 });
    const end = ended(call);
    call.write({ payload: zeros(27182) });
    assert.equal((await end).code, grpc.status.DEADLINE_EXCEEDED);
  },

  async status_code_and_message() {
    const ends = [
      await unary("UnaryCall", { response_status: STATUS }),
      await duplex([{ response_status: STATUS }]),
    ];
    for (const end of ends) {
      assert.deepEqual([end.code, end.details], [STATUS.code, STATUS.message]);
    }
  },

  async special_status_message() {
    const end = await unary("UnaryCall", { response_status: { code: STATUS.code, message: SPECIAL } });
    assert.deepEqual([end.code, end.details], [STATUS.code, SPECIAL]);
  },

  async unimplemented_method() {
    assert.equal((await unary("UnimplementedCall", {})).code, grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service() {
    const other = new testing.UnimplementedService(address, grpc.credentials.createInsecure());
    const end = await unary("UnimplementedCall", {}, new grpc.Metadata(), other);
    other.close();
    assert.equal(end.code, grpc.status.UNIMPLEMENTED);
  },

  async custom_metadata() {
    const sent = new grpc.Metadata();
    sent.set(ECHO_INITIAL, "test_initial_metadata_value");
    sent.set(ECHO_TRAILING, Buffer.from("ababab", "hex"));
    const ends = [
      await unary("UnaryCall", { response_size: 314159, payload: zeros(271828) }, sent),
      await duplex([ordering(314159, 271828)], sent),
    ];
    for (const end of ends) {
      assertOk(end);
      assert.deepEqual(end.initial.get(ECHO_INITIAL), ["test_initial_metadata_value"]);
      assert.deepEqual(end.metadata.get(ECHO_TRAILING), [Buffer.from("ababab", "hex")]);
    }
  },
};

/** Run one case; a case that hangs fails. */
async function outcome(name, run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${WITHIN_MS} ms`)), WITHIN_MS);
  });
  try {
    await Promise.race([run(), late]);
    return `ok ${name}`;
  } catch (error) {
    return `FAILED ${name}: ${String(error.message).replaceAll(/\s+/g, " ")}`;
  } finally {
    clearTimeout(timer);
  }
}

async function main() {
  for (const [name, run] of Object.entries(cases)) {
    console.log(await outcome(name, run));
  }
  client.close();
}

main();
