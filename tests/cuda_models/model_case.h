#pragma once
// Small models of the dimensions that kernels have, and passes through them: on the CPU, and on
// GPUs, played ones (played_gpus.h) or, with HYBRID_TEST_ON_GPU, those of the machine.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "runtime/cuda_devices.h"
#include "runtime/cuda_tables.h"
#include "runtime/devices.h"
#include "runtime/engine.h"
#include "tests/support/accuracy.h"
#include "tests/support/simd_levels.h"
#include "tests/support/split_rules.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

#ifndef HYBRID_TEST_ON_GPU
#include "tests/cuda_models/played_gpus.h"
#endif

namespace hybrid::test {

#ifdef HYBRID_TEST_ON_GPU
struct PlayedOptions {
  int n_gpus = 1;
};
/// The machine's.
struct PlayedGpus {
  explicit PlayedGpus(const PlayedOptions& = {}) {}
};
#endif

/// Whether there are so many GPUs; tells where there are not.
inline bool has_gpus(size_t n) {
  std::string reason;
  const size_t n_found = find_cuda_devices(reason).size();
  if (n_found < n) MESSAGE("not tested: it takes " << n << " GPUs, there are " << n_found);
  return n_found >= n;
}

/// Whether cuBLAS is there; tells where it is not.
inline bool has_blas() {
  std::string reason;
  const CudaTables* const tables = cuda_tables(reason);
  const char* const missing = tables == nullptr ? reason.c_str() : tables->blas.why_missing();
  if (missing != nullptr) MESSAGE("not tested: it takes cuBLAS: " << std::string(missing));
  return missing == nullptr;
}

/// Latents of 512 + 64, keys of 128 + 64, values of 128.
inline TinyModelOptions model_options(uint32_t n_heads, uint32_t q_lora,
                                      std::vector<TinyType> types) {
  TinyModelOptions o;
  o.dims = {.embd = 256,
            .heads = n_heads,
            .nope = 128,
            .rope = 64,
            .v = 128,
            .lora = 512,
            .ff = 256,
            .experts = 8,
            .used = 3,
            .expert_ff = 256,
            .context = 256};
  o.n_layers = 2;
  o.q_lora = q_lora;
  o.quantised = true;
  o.types = std::move(types);
  return o;
}

struct Setup {
  std::string devices = "none";
  std::string rules = "";
  AttentionOptions attention = {};
  uint32_t n_ubatch = 512;
  uint32_t n_ctx = 64;
  uint32_t n_in_flight = 1;
};

inline EngineOptions engine_options(const std::filesystem::path& model, const Setup& setup) {
  EngineOptions options;
  options.model = model;
  options.n_ctx = setup.n_ctx;
  options.execution.n_ubatch = setup.n_ubatch;
  options.execution.attention = setup.attention;
  options.execution.n_in_flight = setup.n_in_flight;
  options.pack = options.prepare_decode = simd_level() != SimdLevel::scalar;
  options.placement.devices = parse_devices(setup.devices);
  if (!setup.rules.empty()) options.placement.rules = parse_split_rules(setup.rules);
  return options;
}

inline std::vector<TokenId> some_tokens(uint32_t first, uint32_t n) {
  std::vector<TokenId> tokens(n);
  for (uint32_t i = 0; i < n; ++i) tokens[i] = static_cast<TokenId>(((first + i) * 37 + 5) % 250);
  return tokens;
}

/// Logits of a prompt's tokens and, if asked for, of tokens that follow one at a time.
struct Pass {
  std::vector<float> prompt, decoded;
  ExpertChoice choice;
};

struct PassArgs {
  uint32_t n_prompt = 20, n_decode = 2;
  const ExpertChoice* replay = nullptr;
  bool record = false;
};

inline Pass run_pass(const Engine& engine, Sequence& sequence, const PassArgs& p) {
  const ModelConfig& config = engine.model().config();
  const uint32_t n_all = p.n_prompt + p.n_decode;
  Pass pass{std::vector<float>(uint64_t{p.n_prompt} * config.n_vocab),
            std::vector<float>(uint64_t{p.n_decode} * config.n_vocab),
            ExpertChoice(config.n_moe_layers(), n_all, config.moe.n_used)};
  const std::vector<TokenId> tokens = some_tokens(0, n_all);
  Sequence::AppendArgs args;
  args.replay = p.replay;
  args.record = p.record ? &pass.choice : nullptr;
  args.tokens = std::span(tokens).first(p.n_prompt);
  args.n_logit_rows = p.n_prompt;
  args.logits = pass.prompt.data();
  bool is_done = sequence.append(args);  // not within a check, which would take its errors
  for (uint32_t i = 0; i < p.n_decode; ++i) {
    args.tokens = std::span(tokens).subspan(p.n_prompt + i, 1);
    args.n_logit_rows = 1;
    args.choice_offset = p.n_prompt + i;
    args.logits = pass.decoded.data() + uint64_t{i} * config.n_vocab;
    is_done &= sequence.append(args);
  }
  REQUIRE(is_done);
  return pass;
}

inline Pass run_pass(const std::filesystem::path& model, const Setup& setup, const PassArgs& p) {
  const Engine engine(engine_options(model, setup));
  Sequence sequence = engine.make_sequence();
  return run_pass(engine, sequence, p);
}

/// The CPU's plainest kernels: floats, from the file's own blocks.
inline Pass reference_pass(const std::filesystem::path& model, Setup setup, PassArgs p) {
  LevelScope scope;
  REQUIRE(scope.set(SimdLevel::scalar));
  setup.devices = "none";
  setup.rules = "";
  setup.n_in_flight = 1;
  p.record = p.replay == nullptr;
  return run_pass(model, setup, p);
}

/// What the device holds beside what the plan counts for context and margin.
inline void check_plan(const Engine& engine) {
  const PlacementPlan& plan = *engine.placement();
  for (size_t d = 1; d < plan.devices.size(); ++d) {
    const uint64_t used = engine.model().devices()[d - 1]->device().used_bytes();
    CHECK(used == plan.loads[d].n_bytes() - plan.fixed[d].context);
    CHECK(used > 0);
  }
}

}  // namespace hybrid::test
