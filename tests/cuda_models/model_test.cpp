// Whole models on GPUs against the CPU's plainest kernels: whatever lies where, in prefill and in
// decode, and that GPUs hold what plans say.

#include "runtime/cuda_scratch.h"
#include "runtime/sequence_file.h"
#include "tests/cuda_models/model_case.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

// RMS of the difference of logits over their RMS, with the same experts. Many tokens are multiplied
// as bf16; few as two rounds of bytes, against caches in half floats.
constexpr double kTiles = 2e-2, kVectors = 1e-3, kQ8Cache = 1.5e-2;

const std::vector<TinyType> kQ4K{{"kv_b", DType::q8_0},     {"attn_q_b", DType::q4_k},
                                 {"attn_", DType::q4_k},    {"ffn_gate_inp", DType::f32},
                                 {"ffn_down", DType::q6_k}, {"ffn_", DType::q4_k},
                                 {"output.w", DType::q6_k}, {"token_embd", DType::q4_k}};
const std::vector<TinyType> kIq4{{"kv_b", DType::iq4_xs},
                                 {"norm", DType::f32},
                                 {"ffn_gate_inp", DType::f32},
                                 {".weight", DType::iq4_xs}};
const std::vector<TinyType> kF16{
    {"ffn_gate_inp", DType::f32}, {"norm", DType::f32}, {".weight", DType::f16}};

std::filesystem::path write_model(const TempDir& dir, const TinyModelOptions& options) {
  return dir.write("m.gguf", tiny_model(options).bytes());
}

/// The error of a pass with the CPU's experts.
double replayed_error(const Engine& engine, const Pass& expected, PassArgs p) {
  Sequence sequence = engine.make_sequence();
  check_plan(engine);
  p.replay = &expected.choice;
  const Pass found = run_pass(engine, sequence, p);
  return std::max(relative_error(found.prompt, expected.prompt),
                  relative_error(found.decoded, expected.decoded));
}

/// A prompt in tiles and tokens behind it, and the same as vectors.
void check_model(const std::filesystem::path& model, Setup setup, double least = 0) {
  CAPTURE(setup.devices);
  CAPTURE(setup.rules);
  const PassArgs tiles{.n_prompt = 13, .n_decode = 1}, vectors{.n_prompt = 5, .n_decode = 1};
  const Pass expected_tiles = reference_pass(model, setup, tiles);
  const Pass expected_vectors = reference_pass(model, setup, vectors);
  const Engine engine(engine_options(model, setup));
  const double in_tiles = replayed_error(engine, expected_tiles, tiles);
  const double in_vectors = replayed_error(engine, expected_vectors, vectors);
  CHECK(in_tiles < std::max(kTiles, least));
  CHECK(in_vectors < std::max(kVectors, least));
  print_accuracy("{} {}: tiles {:.2e}, vectors {:.2e}", setup.devices, setup.rules, in_tiles,
                 in_vectors);
}

}  // namespace

TEST_CASE("models: all on a GPU, in the types and forms that files have") {
  const PlayedGpus gpus;
  if (!has_gpus(1)) return;
  const TempDir dir;
  const Setup all{"cuda:0", ".*=CUDA0"};
  SUBCASE("Q4_K, Q6_K and Q8_0") {
    for (const uint32_t q_lora : {0u, 256u}) {
      check_model(write_model(dir, model_options(2, q_lora, kQ4K)), all);
    }
  }
  SUBCASE("IQ4_XS") { check_model(write_model(dir, model_options(2, 256, kIq4)), all); }
  SUBCASE("F16, sigmoid routing with a bias, groups, more heads") {
    TinyModelOptions options = model_options(16, 0, kF16);
    options.gating = 2;
    options.selection_bias = true;
    options.n_groups = 4;
    options.n_groups_used = 2;
    check_model(write_model(dir, options), all);
  }
  SUBCASE("gate and up in one tensor, keys and values in two") {
    TinyModelOptions options = model_options(2, 0, {});
    options.merged_gate_up = true;
    options.kv = TinyModelOptions::Kv::split_3d;
    check_model(write_model(dir, options), all);
  }
}

TEST_CASE("models: parts on GPUs, parts on the CPU") {
  LevelScope scope;  // the CPU's part shall be exact
  REQUIRE(scope.set(SimdLevel::scalar));
  const PlayedGpus gpus({.n_gpus = 2});
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 0, kQ4K));
  if (has_gpus(1)) {
    for (const char* rules : {"_exps=CPU,.*=CUDA0", "_exps=CUDA0,.*=CPU", "shexp=CUDA0,.*=CPU",
                              "_exps@2-5=CUDA0,_exps=CPU,.*=CUDA0",
                              "token_embd=CUDA0,^output=CUDA0,.*=CPU", "blk\\.1\\.=CPU,.*=CUDA0"}) {
      check_model(model, {"cuda:0", rules});
    }
  }
  if (has_gpus(2)) {
    for (const char* rules : {"blk\\.0\\.=CUDA0,.*=CUDA1", "_exps=CUDA1,.*=CUDA0",
                              "shexp=CUDA1,_exps=CPU,.*=CUDA0", "_exps@0-4=CUDA0,.*=CUDA1"}) {
      check_model(model, {"cuda:0,cuda:1", rules});
    }
  }
}

TEST_CASE("models: a GPU chooses the CPU's experts where rounding is fine") {
  const PlayedGpus gpus;
  if (!has_gpus(1)) return;
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 0, kQ4K));
  const Setup all{"cuda:0", ".*=CUDA0"};
  const PassArgs p{.n_prompt = 8, .n_decode = 2};
  const Pass expected = reference_pass(model, all, p);
  PassArgs recorded = p;
  recorded.record = true;
  CHECK(run_pass(model, all, recorded).choice.ids == expected.choice.ids);
  // Without a record the GPU routes itself.
  const Pass found = run_pass(model, all, p);
  CHECK(relative_error(found.prompt, expected.prompt) < kVectors);
  CHECK(relative_error(found.decoded, expected.decoded) < kVectors);
}

TEST_CASE("models: micro-batches, modes of attention and caches") {
  const PlayedGpus gpus;
  if (!has_gpus(1)) return;
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 0, {}));
  Setup setup{"cuda:0", ".*=CUDA0"};
  SUBCASE("micro-batches of vectors and of tiles") {
    for (const uint32_t n_ubatch : {1u, 12u}) {
      setup.n_ubatch = n_ubatch;
      check_model(model, setup);
    }
  }
  SUBCASE("two micro-batches in flight, with experts on the CPU and without") {
    setup.n_in_flight = 2;
    setup.n_ubatch = 5;
    check_model(model, setup);
    LevelScope scope;
    REQUIRE(scope.set(SimdLevel::scalar));
    setup.rules = "_exps=CPU,.*=CUDA0";
    check_model(model, setup);
  }
  SUBCASE("attention on latents alone, more tokens than it takes at a time") {
    setup.attention.mla = MlaMode::absorbed;
    check_model(model, setup);
    setup.n_ctx = 128;
    const PassArgs p{.n_prompt = kCudaAbsorbedTokens + 5, .n_decode = 1};
    const Engine engine(engine_options(model, setup));
    CHECK(replayed_error(engine, reference_pass(model, setup, p), p) < kTiles);
  }
  SUBCASE("keys and values of one head at a time, then room for none") {
    setup.attention.max_scratch_bytes = setup.n_ctx * 256 * sizeof(bf16_t);
    check_model(model, setup);
    setup.attention.max_scratch_bytes -= 1;
    check_model(model, setup);
  }
  SUBCASE("q8_0") {
    setup.attention.key_type = setup.attention.value_type = DType::q8_0;
    check_model(model, setup, kQ8Cache);
  }
  SUBCASE("positions that are split over blocks") {
    setup.n_ctx = 192;
    const PassArgs p{.n_prompt = 140, .n_decode = 1};
    const Engine engine(engine_options(model, setup));
    CHECK(replayed_error(engine, reference_pass(model, setup, p), p) < kTiles);
  }
}

TEST_CASE("models: scores in memory, whatever -amb has room for") {
  const PlayedGpus gpus;
  if (!has_gpus(1) || !has_blas()) return;
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 0, {}));
  Setup setup{"cuda:0", ".*=CUDA0"};
  setup.attention.flash = false;
  const CudaScoreShape of_keys{.n_heads = 2, .n_tokens = 13, .made_dim = 256};
  const CudaScoreShape on_latents{.n_heads = 2, .n_tokens = 13};
  const uint64_t n_ctx = setup.n_ctx, row = of_keys.row_bytes(n_ctx);
  uint64_t& limit = setup.attention.max_scratch_bytes;
  SUBCASE("with made keys") {
    for (const uint64_t n :
         {uint64_t{0}, of_keys.n_bytes(n_ctx, 0) - 1, of_keys.head_bytes(n_ctx) + 5 * row}) {
      limit = n;  // all heads; one; some tokens of one
      check_model(model, setup);
    }
  }
  SUBCASE("on latents, because keys have no room") {
    limit = of_keys.head_bytes(n_ctx);
    check_model(model, setup);
  }
  SUBCASE("on latents, because -mla says so, more tokens than they take at a time") {
    setup.attention.mla = MlaMode::absorbed;
    for (const uint64_t n : {uint64_t{0}, on_latents.n_bytes(n_ctx, 0) - 1, 5 * row}) {
      limit = n;
      check_model(model, setup);
    }
    setup.n_ctx = 128;
    limit = 0;
    const PassArgs p{.n_prompt = kCudaAbsorbedTokens + 5, .n_decode = 1};
    const Engine engine(engine_options(model, setup));
    CHECK(replayed_error(engine, reference_pass(model, setup, p), p) < kTiles);
  }
  SUBCASE("micro-batches behind others, two in flight") {
    setup.n_ubatch = 12;
    setup.n_in_flight = 2;
    const PassArgs p{.n_prompt = 33, .n_decode = 1};
    for (const MlaMode mode : {MlaMode::unabsorbed_prefill, MlaMode::absorbed}) {
      setup.attention.mla = mode;
      const Engine engine(engine_options(model, setup));
      CHECK(replayed_error(engine, reference_pass(model, setup, p), p) < kTiles);
    }
  }
  SUBCASE("q8_0") {
    setup.attention.key_type = setup.attention.value_type = DType::q8_0;
    for (const MlaMode mode : {MlaMode::unabsorbed_prefill, MlaMode::absorbed}) {
      setup.attention.mla = mode;
      check_model(model, setup, kQ8Cache);
    }
  }
  SUBCASE("more heads, parts on the CPU") {
    LevelScope scope;
    REQUIRE(scope.set(SimdLevel::scalar));
    const TempDir other;
    setup.rules = "_exps=CPU,blk\\.1\\.=CPU,.*=CUDA0";
    check_model(write_model(other, model_options(16, 256, kQ4K)), setup);
  }
}

/// Tokens of three sequences in one step; each like alone.
static void check_sequences_together(const AttentionOptions& attention) {
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 256, {}));
  Setup setup{"cuda:0", ".*=CUDA0"};
  setup.attention = attention;
  const Engine engine(engine_options(model, setup));
  const uint32_t n_vocab = engine.model().config().n_vocab;
  const std::vector<TokenId> a = some_tokens(0, 14), b = some_tokens(50, 5), c = some_tokens(90, 1);
  const auto alone = [&](const std::vector<TokenId>& tokens) {
    Sequence sequence = engine.make_sequence();
    std::vector<float> logits(n_vocab);
    Sequence::AppendArgs args;
    args.tokens = tokens;
    args.n_logit_rows = 1;
    args.logits = logits.data();
    REQUIRE(sequence.append(args));
    return logits;
  };
  Sequence one = engine.make_sequence(), two = engine.make_sequence(),
           three = engine.make_sequence();
  std::vector<float> of_a(n_vocab), of_b(n_vocab), of_c(n_vocab);
  const Sequence::Part parts[] = {
      {&one, a, of_a.data()}, {&two, b, of_b.data()}, {&three, c, of_c.data()}};
  REQUIRE(Sequence::append_together(parts));
  // Alone they are fewer, and other kernels round otherwise.
  CHECK(relative_error(of_a, alone(a)) < kTiles);
  CHECK(relative_error(of_b, alone(b)) < kTiles);
  CHECK(relative_error(of_c, alone(c)) < kTiles);
}

TEST_CASE("models: tokens of several sequences in one step") {
  const PlayedGpus gpus;
  if (!has_gpus(1)) return;
  check_sequences_together({});
  if (has_blas()) check_sequences_together({.flash = false});
}

TEST_CASE("models: sequences are saved, restored and copied from a GPU") {
  const PlayedGpus gpus;
  if (!has_gpus(1)) return;
  const TempDir dir;
  const auto model = write_model(dir, model_options(2, 0, {}));
  const auto next_logits = [](Sequence& sequence) {
    std::vector<float> logits(sequence.model().config().n_vocab);
    const TokenId next = 12;
    Sequence::AppendArgs args;
    args.tokens = std::span(&next, 1);
    args.n_logit_rows = 1;
    args.logits = logits.data();
    REQUIRE(sequence.append(args));
    return logits;
  };
  const std::filesystem::path file = dir.path() / "saved";
  const Engine engine(engine_options(model, {"cuda:0", "blk\\.1\\.=CPU,.*=CUDA0"}));
  Sequence sequence = engine.make_sequence(), copy = engine.make_sequence(),
           restored = engine.make_sequence();
  run_pass(engine, sequence, {.n_prompt = 9, .n_decode = 0});
  SequenceFileWriter(file).write(sequence);
  copy.copy_prefix(sequence, sequence.tokens().size());
  REQUIRE(restore_sequence(file, restored));
  const std::vector<float> expected = next_logits(sequence);
  CHECK(next_logits(copy) == expected);
  CHECK(next_logits(restored) == expected);
  // The CPU reads the same rows.
  const Engine cpu(engine_options(model, {}));
  Sequence there = cpu.make_sequence();
  REQUIRE(restore_sequence(file, there));
  CHECK(relative_error(next_logits(there), expected) < kTiles);
}
