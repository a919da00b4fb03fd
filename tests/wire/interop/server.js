"use strict";
// The interop service of @grpc/grpc-js: `node server.js` prints its port, and serves until its standard input ends.

const { ECHO_INITIAL, ECHO_TRAILING, grpc, testing } = require("./testing");

const zeros = (size) => ({ payload: { body: Buffer.alloc(size) } });

/** Begin the response with the metadata that is to come first, and return what is to come last. */
function begin(call) {
  const [initial, trailing] = [new grpc.Metadata(), new grpc.Metadata()];
  call.metadata.get(ECHO_INITIAL).forEach((value) => initial.add(ECHO_INITIAL, value));
  call.metadata.get(ECHO_TRAILING).forEach((value) => trailing.add(ECHO_TRAILING, value));
  call.sendMetadata(initial);
  return trailing;
}

const failure = (status, metadata) => ({ code: status.code, details: status.message, metadata });

const handlers = {
  EmptyCall(call, reply) {
    reply(null, {});
  },

  UnaryCall(call, reply) {
    const trailing = begin(call);
    const { response_size: size, response_status: status } = call.request;
    if (status) {
      reply(failure(status, trailing));
    } else {
      reply(null, zeros(size), trailing);
    }
  },

  StreamingInputCall(call, reply) {
    begin(call);
    let total = 0;
    call.on("data", (request) => (total += request.payload.body.length));
    call.on("end", () => reply(null, { aggregated_payload_size: total }));
  },

  StreamingOutputCall(call) {
    const trailing = begin(call);
    call.request.response_parameters.forEach(({ size }) => call.write(zeros(size)));
    call.end(trailing);
  },

  FullDuplexCall(call) {
    const trailing = begin(call);
    call.on("data", ({ response_parameters: parameters, response_status: status }) => {
      if (status) {
        call.emit("error", failure(status, trailing));
      } else {
        parameters.forEach(({ size }) => call.write(zeros(size)));
      }
    });
    call.on("end", () => call.end(trailing));
  },
};

const server = new grpc.Server();
server.addService(testing.TestService.service, handlers);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
process.stdin.resume().on("end", () => process.exit());
