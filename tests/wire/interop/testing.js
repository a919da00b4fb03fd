"use strict";
// @grpc/grpc-js, and the services of testing.proto as it makes them.

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const definition = loadSync(path.join(__dirname, "testing.proto"), { keepCase: true, defaults: true });

module.exports = {
  grpc,
  testing: grpc.loadPackageDefinition(definition).grpc.testing,
  ECHO_INITIAL: "x-grpc-test-echo-initial",
  ECHO_TRAILING: "x-grpc-test-echo-trailing-bin",
};
