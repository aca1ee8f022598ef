// What goes wrong on a GPU, as a person reads it; and GPUs that are not there, or cannot be used.

#include "runtime/cuda_scratch.h"
#include "runtime/placement_plan.h"
#include "tensor/cuda_blas.h"
#include "tests/cuda_models/model_case.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

struct ModelFile {
  TempDir dir;
  std::filesystem::path path;

  explicit ModelFile(const TinyModelOptions& options = model_options(2, 0, {}))
      : path(dir.write("m.gguf", tiny_model(options).bytes())) {}
};

const Setup kAll{"cuda:0", ".*=CUDA0"};

std::string place_error(const std::filesystem::path& model, const Setup& setup,
                        bool fused_moe = true) {
  return error_of([&] {
    EngineOptions options = engine_options(model, setup);
    options.prepare_now = false;
    options.execution.fused_moe = fused_moe;
    Engine(options).place();
  });
}

}  // namespace

TEST_CASE("played: a launch that fails ends in an error that names it") {
  PlayedGpus gpus;
  const ModelFile model;
  const Engine engine(engine_options(model.path, kAll));
  {
    Sequence sequence = engine.make_sequence();
    gpus.refuse_launch(gpus.n_launches() + 3);
    const std::string error = error_of([&] { run_pass(engine, sequence, {}); });
    CHECK(error ==
          "CUDA0 (played): to_bf16 failed: unspecified launch failure "
          "(cudaErrorLaunchFailure)");
    // The device stays so.
    CHECK(error_of([&] { run_pass(engine, sequence, {}); }) == error);
  }
  CHECK(error_of([&] { engine.make_sequence(); }).find("cudaErrorLaunchFailure") !=
        std::string::npos);
}

TEST_CASE("played: a kernel that fails later is told by the next wait") {
  PlayedGpus gpus;
  const ModelFile model;
  const Engine engine(engine_options(model.path, kAll));
  Sequence sequence = engine.make_sequence();
  gpus.fail_launch(gpus.n_launches() + 10);
  const std::string error = error_of([&] { run_pass(engine, sequence, {}); });
  CHECK(error.find("CUDA0 (played): ") == 0);
  CHECK(error.find("unspecified launch failure") != std::string::npos);
}

TEST_CASE("played: a GPU that does nothing is given up") {
  PlayedGpus gpus;
  const ModelFile model;
  const Engine engine(engine_options(model.path, kAll));
  Sequence sequence = engine.make_sequence();
  gpus.hang();
  const std::string error = error_of([&] { run_pass(engine, sequence, {}); });
  CHECK(error == "CUDA0 (played): no answer for 10 s while the host waited for an event");
}

TEST_CASE("played: every schedule gives the same bits") {
  const ModelFile model;
  std::vector<float> first;
  for (const uint32_t seed : {1u, 2u, 3u}) {
    const PlayedGpus gpus({.n_gpus = 2, .seed = seed});
    const Setup setup{"cuda:0,cuda:1", "shexp=CUDA1,_exps=CPU,.*=CUDA0"};
    const Pass pass = run_pass(model.path, setup, {.n_prompt = 10, .n_decode = 1});
    if (first.empty()) first = pass.decoded;
    CHECK(pass.decoded == first);
  }
}

TEST_CASE("played: a plan is kept to the byte, and no run begins with a byte less") {
  const PlayedGpus gpus({.memory_bytes = uint64_t{600} << 20});
  const ModelFile model;
  EngineOptions options = engine_options(model.path, kAll);
  uint64_t n_bytes = 0;
  {
    const Engine engine(options);
    const Sequence sequence = engine.make_sequence();
    check_plan(engine);
    n_bytes = engine.placement()->loads[1].n_bytes();
    CHECK(engine.placement()->fixed[1].context == kGpuMarginBytes);
  }
  options.placement.budgets = {{{DeviceKind::cuda, 0}, n_bytes}};
  { const Engine engine(options); }
  options.placement.budgets = {{{DeviceKind::cuda, 0}, n_bytes - 1}};
  CHECK(error_of([&] { Engine{options}; }).find("CUDA0 would hold") == 0);
}

TEST_CASE("played: scores are in memory with -fa 0 alone, and plans know it") {
  const PlayedGpus gpus;
  const ModelFile model;
  const auto n_products = [&](Setup setup, uint32_t n_prompt) {
    setup.attention.flash = false;
    const Engine engine(engine_options(model.path, setup));
    Sequence sequence = engine.make_sequence();
    check_plan(engine);
    const uint64_t before = gpus.n_blas_products();
    run_pass(engine, sequence, {.n_prompt = n_prompt, .n_decode = 1});
    return gpus.n_blas_products() - before;
  };
  run_pass(model.path, kAll, {});
  CHECK(gpus.n_blas_products() == 0);
  // Three for each of two layers and each step; none for few tokens.
  Setup setup = kAll;
  CHECK(n_products(setup, 13) == 6);
  CHECK(n_products(setup, kCudaVectorTokens) == 0);
  const CudaScoreShape shape{.n_heads = 2, .n_tokens = 13, .made_dim = 256};
  uint64_t& limit = setup.attention.max_scratch_bytes;
  limit = shape.n_bytes(setup.n_ctx, 0) - 1;
  CHECK(n_products(setup, 13) == 12);
  limit = shape.head_bytes(setup.n_ctx) + 5 * shape.row_bytes(setup.n_ctx);
  CHECK(n_products(setup, 13) == 36);
  setup.attention.mla = MlaMode::absorbed;
  limit = 5 * shape.row_bytes(setup.n_ctx);
  CHECK(n_products(setup, 13) == 36);
  limit = 0;
  CHECK(n_products(setup, 13) == 6);
}

TEST_CASE("played: the plan's bytes of -fa 0 are these: cuBLAS's, and -amb's") {
  const PlayedGpus gpus;
  const ModelFile model;
  const auto n_bytes = [&](bool flash, uint64_t limit) {
    Setup setup = kAll;
    setup.n_ctx = 256;  // with few tokens at a time, beyond what else shares the memory
    setup.n_ubatch = 16;
    setup.attention = {.mla = MlaMode::absorbed, .flash = flash, .max_scratch_bytes = limit};
    const Engine engine(engine_options(model.path, setup));
    const Sequence sequence = engine.make_sequence();
    check_plan(engine);
    return engine.placement()->loads[1].n_bytes();
  };
  CHECK(n_bytes(false, 16 << 20) - n_bytes(true, 16 << 20) > kCudaBlasWorkspaceBytes);
  CHECK(n_bytes(true, 16 << 20) == n_bytes(true, 1 << 20));
  CHECK(n_bytes(false, 20000) - n_bytes(false, 10240) == 9984);  // multiples of 256
  const uint64_t all = CudaScoreShape{.n_heads = 2, .n_tokens = 16}.n_bytes(256, 0);
  CHECK(n_bytes(false, 0) - n_bytes(false, 10240) == all - 10240);
  CHECK(n_bytes(false, 16 << 20) == n_bytes(false, 0));
}

TEST_CASE("played: -fa 0 without cuBLAS ends with one sentence, also on GPUs that were found") {
  const std::string missing =
      "libcublas.so.13: cannot open shared object file: No such file or directory";
  const PlayedGpus gpus({.missing_blas = missing});
  const ModelFile model;
  const std::string expected =
      "-fa 0 on a GPU needs cuBLAS, which cannot be opened: " + missing +
      "; install it with the CUDA toolkit, say where it is in LD_LIBRARY_PATH, or give -fa 1";
  Setup setup = kAll;
  setup.attention.flash = false;
  CHECK(place_error(model.path, setup) == expected);
  EngineOptions options = engine_options(model.path, setup);
  options.placement.rules = {};
  options.placement.devices_are_found = true;
  CHECK(error_of([&] { Engine{options}; }) == expected);
  // Where it is not needed, nobody asks: no attention on a GPU, few tokens, -fa 1.
  Setup experts = setup;
  experts.rules = "_exps=CUDA0,.*=CPU";
  run_pass(model.path, experts, {});
  Setup few = setup;
  few.n_ubatch = kCudaVectorTokens;
  run_pass(model.path, few, {});
  run_pass(model.path, kAll, {});
}

TEST_CASE("played: GPUs that are found are used without a word, where they can be") {
  const PlayedGpus gpus({.n_gpus = 2});
  std::string reason;
  const std::vector<DeviceName> found = find_cuda_devices(reason);
  CHECK(found == std::vector<DeviceName>{{DeviceKind::cuda, 0}, {DeviceKind::cuda, 1}});
  CHECK(reason.empty());
  const ModelFile model, small(TinyModelOptions{});
  Setup setup;
  const auto engine_of = [&](const std::filesystem::path& path, const std::string& rules) {
    EngineOptions options = engine_options(path, {.rules = rules});
    options.placement.devices = found;
    options.placement.devices_are_found = true;
    return Engine(options);
  };
  {
    const Engine engine = engine_of(model.path, "");
    CHECK(engine.device_note().empty());
    REQUIRE(engine.placement());
    CHECK(engine.placement()->where.layers[0].home == 1);
  }
  {
    const Engine engine = engine_of(small.path, "");
    CHECK(!engine.placement());
    CHECK(!engine.device_note().empty());
    Sequence sequence = engine.make_sequence();
    run_pass(engine, sequence, {});
  }
  CHECK(error_of([&] { engine_of(small.path, ".*=CUDA0"); }).find("GPUs do not compute") == 0);
}

TEST_CASE("played: what kernels do not do is refused before anything is loaded") {
  const PlayedGpus gpus;
  const ModelFile model;
  const auto refused = [&](const AttentionOptions& attention) {
    Setup setup = kAll;
    setup.attention = attention;
    return place_error(model.path, setup);
  };
  CHECK(refused({.mla = MlaMode::standard}) ==
        "GPUs do not compute attention of -mla 0 in this version (layer 0); give -mla 2 or 3; "
        "--device none leaves all to the CPU");
  CHECK(refused({.mla = MlaMode::absorbed_transposed}).find("attention of -mla 1") !=
        std::string::npos);
  CHECK(refused({.flash = false}).empty());
  CHECK(
      refused({.flash = false, .max_scratch_bytes = 700}) ==
      "GPUs do not compute K*Q with -amb of 700 B: the scores and weights of one query and head "
      "over 64 tokens take 768 B in this version (layer 0); raise it, or give -fa 1; --device none "
      "leaves all to the CPU");
  CHECK(refused({.key_type = DType::f32}).find("caches of -ctk f32") != std::string::npos);
  CHECK(refused({}).empty());
  CHECK(place_error(model.path, kAll, false).find("experts of -fmoe 0") != std::string::npos);
  // What stays on the CPU may be anything.
  Setup experts{"cuda:0", "_exps=CUDA0,.*=CPU"};
  experts.attention.mla = MlaMode::standard;
  experts.attention.key_type = DType::f32;
  CHECK(place_error(model.path, experts).empty());

  const ModelFile floats(model_options(2, 0, {{"kv_b", DType::f32}}));
  CHECK(place_error(floats.path, kAll).find("attention with attn_kv_b of F32") !=
        std::string::npos);
  TinyModelOptions many = model_options(2, 0, {});
  many.dims.experts = 520;
  many.dims.embd = many.dims.expert_ff = 32;
  const ModelFile experts_of_many(many);
  CHECK(place_error(experts_of_many.path, kAll).find("routing to 520 experts") !=
        std::string::npos);
}

TEST_CASE("played: GPUs that are not there, or too old") {
  const ModelFile model;
  const auto error = [&](const std::string& devices) {
    return place_error(model.path, {.devices = devices});
  };
  std::string reason;
  if (find_cuda_devices(reason).empty()) {  // no plugin, or no driver
    CHECK(!reason.empty());
    CHECK(error("cuda:0") == "there is no CUDA0: " + reason);
  }
  {
    const PlayedGpus gpus;
    CHECK(error("cuda:1") == "there is no CUDA1: GPUs here are CUDA0 to CUDA0");
  }
  const PlayedGpus old({.major = 7});
  CHECK(error("cuda:0") ==
        "CUDA0 (played) has compute capability 7.0, kernels need 8.0 (Ampere) or later");
  reason.clear();
  CHECK(find_cuda_devices(reason).empty());
  CHECK(reason.find("compute capability 7.0") != std::string::npos);
}
