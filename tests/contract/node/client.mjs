// Calls every service of a running expresslane through stubs made from proto/ alone, and prints what it saw as JSON.
// usage: node client.mjs HOST:PORT PROTO_DIR
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, protoDir] = process.argv.slice(2);
const files = ["inference", "admin", "jobs"].map((name) => `expresslane/v1/${name}.proto`);
const definition = protoLoader.loadSync(files, {
  includeDirs: [protoDir],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
});
const { v1 } = grpc.loadPackageDefinition(definition).expresslane;
const inference = new v1.Inference(address, grpc.credentials.createInsecure());
const admin = new v1.Admin(address, grpc.credentials.createInsecure());
const jobs = new v1.Jobs(address, grpc.credentials.createInsecure());

const unary = (client, method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );

const collect = (stream) =>
  new Promise((resolve, reject) => {
    const messages = [];
    stream.on("data", (message) => messages.push(message));
    stream.on("error", reject);
    stream.on("end", () => resolve(messages));
  });

const refusal = async (promise) => {
  try {
    await promise;
  } catch (error) {
    const details = error.metadata.get("grpc-status-details-bin")[0];
    return { code: error.code, message: error.details, details: details?.toString("latin1") ?? "" };
  }
  return null;
};

const prompts = Array.from({ length: 12 }, (_, i) => ({
  custom_id: `node-${i}`,
  text: `prompt ${i} ` + "x".repeat(i * 40),
  sampling: { max_tokens: 4 },
}));

const batch = await collect(inference.generateBatch({ prompts, config: { request_id: "from-node" } }));
const inOrder = await collect(inference.generateBatch({ prompts, config: { delivery: "DELIVERY_IN_ORDER" } }));
const collected = await unary(inference, "collectBatch", { prompts });
const single = await collect(inference.generate({ prompt: { custom_id: "one", text: "hello" } }));

const session = inference.streamPrompts();
const sessionMessages = collect(session);
session.write({ config: {} });
session.write({ prompts: prompts.slice(0, 3) });
session.end();

const job = await unary(jobs, "createJob", { prompts, job_id: "from-node" });

const unknown = { prompts: [{ custom_id: "a", text: "x", model: "nope" }, { custom_id: "b", text: "x" }] };

console.log(
  JSON.stringify({
    batch,
    inOrder,
    collected,
    single,
    session: await sessionMessages,
    job,
    watched: await collect(jobs.watchJob({ name: job.name })),
    watchedOn: await collect(jobs.watchJob({ name: job.name, after: 9 })),
    jobEnded: await unary(jobs, "getJob", { name: job.name }),
    jobTwice: await refusal(unary(jobs, "createJob", { prompts, job_id: "from-node" })),
    noJob: await refusal(unary(jobs, "cancelJob", { name: "jobs/none" })),
    again: await collect(
      inference.generateBatch({ prompts: [{ custom_id: "a", text: "x", model: "m" }] }),
    ),
    unknownModel: await collect(inference.generateBatch(unknown)),
    empty: await refusal(collect(inference.generateBatch({}))),
    duplicate: await refusal(unary(inference, "collectBatch", { prompts: [prompts[0], prompts[0]] })),
    backends: await unary(admin, "listBackends", {}),
    backend: await unary(admin, "getBackend", { name: "backends/simulated" }),
    updated: await unary(admin, "updateBackend", {
      backend: { name: "backends/simulated", cap: 3 },
      update_mask: { paths: ["cap"] },
    }),
    noBackend: await refusal(unary(admin, "getBackend", { name: "backends/none" })),
    snapshot: await unary(admin, "getSnapshot", {}),
    drain: await unary(admin, "drain", {}),
    drained: await refusal(collect(inference.generateBatch({ prompts }))),
  }),
);
inference.close();
admin.close();
