// Routing and the experts that live on a device, against the CPU's ops.

#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <span>

#include "experts/moe_ffn_scratch_cuda.h"
#include "experts/router.h"
#include "experts/router_cuda.h"
#include "experts/routes.h"
#include "tests/cuda_host/device_weights.h"
#include "tests/experts/expert_case.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

void check_routing(const MoeShape& shape, const std::vector<float>& logits,
                   const std::vector<float>& bias) {
  const auto n_tokens = static_cast<uint32_t>(logits.size() / shape.n_experts);
  const uint64_t n_slots = uint64_t{n_tokens} * shape.n_used;
  std::vector<int32_t> ids(n_slots);
  std::vector<float> weights(n_slots);
  for (uint32_t t = 0; t < n_tokens; ++t) {
    route_token(shape, std::span(logits).subspan(t * shape.n_experts, shape.n_experts), bias,
                std::span(ids).subspan(t * shape.n_used, shape.n_used),
                std::span(weights).subspan(t * shape.n_used, shape.n_used));
  }
  DeviceBuffer<float> from(logits), of_bias(bias);
  const auto [found_ids, found_weights] = same_under_schedules([&] {
    DeviceBuffer<int32_t> to_ids(n_slots);
    DeviceBuffer<float> to_weights(n_slots);
    REQUIRE(route_tokens_cuda(shape, {from.data(), shape.n_experts},
                              bias.empty() ? nullptr : of_bias.data(), n_tokens, to_ids.data(),
                              to_weights.data(), stream()) == 0);
    return std::pair(written(to_ids), written(to_weights));
  });
  CHECK(found_ids == ids);
  for (uint64_t i = 0; i < n_slots; ++i) {
    CHECK(found_weights[i] == doctest::Approx(weights[i]).epsilon(1e-6));
  }
}

struct DeviceNets {
  std::vector<std::unique_ptr<DeviceBuffer<std::byte>>> buffers;
  DeviceFfn ffn;

  explicit DeviceNets(const ExpertWeights& w) {
    ffn.gate = upload(w.is_merged() ? w.gate_up : w.gate);
    if (!w.is_merged()) ffn.up = upload(w.up);
    ffn.down = upload(w.down);
  }
  DevicePanels upload(const Weight& w) {
    const std::span<const std::byte> panels(w.panels, packed_bytes(w));
    buffers.push_back(std::make_unique<DeviceBuffer<std::byte>>(panels));
    return {w.type(), static_cast<uint32_t>(w.n_cols()), static_cast<uint32_t>(w.n_rows()),
            buffers.back()->data(), device_grids()};
  }
};

std::vector<float> run(const MoeCase& c, const ExpertWeights& w,
                       const std::vector<int32_t>& local) {
  DeviceNets nets(w);
  const uint64_t n_embd = c.experts.n_embd();
  DeviceBuffer<float> x(c.x), weights(c.weights), y(c.unwritten());
  DeviceBuffer<int32_t> ids(c.ids), device_local(local);
  MoeFfnCudaArgs args;
  args.nets = nets.ffn;
  args.n_matrices = static_cast<uint32_t>(c.experts.n_experts());
  args.local = local.empty() ? nullptr : device_local.data();
  args.n_tokens = static_cast<uint32_t>(c.n_tokens());
  args.n_used = c.n_used;
  args.ids = ids.data();
  args.weights = weights.data();
  args.x = {x.data(), n_embd};
  args.y = {y.data(), n_embd};
  DeviceBuffer<std::byte> scratch(moe_ffn_scratch_bytes(args));
  args.scratch = scratch.data();
  REQUIRE(moe_ffn_cuda(args, stream()) == 0);
  return y.download();
}

double error(const MoeCase& c, const std::vector<float>& y) {
  RelativeRms rms;
  c.add_errors(y, rms);
  return rms.value();
}

// Tokens as vectors: hidden rows in two rounds of bytes. In tiles: three roundings to bf16.
constexpr double kVectors = 2e-4, kTiles = 6e-3;

}  // namespace

TEST_CASE("cuda: routing by every rule, with a bias, ties and numbers that are none") {
  std::mt19937 random(3);
  const auto logits = random_floats(3 * 256, 1), bias = random_floats(256, 2);
  for (const Gating gating : {Gating::softmax, Gating::sigmoid}) {
    for (const GroupRule rule : {GroupRule::none, GroupRule::top2_sum, GroupRule::max}) {
      MoeShape shape{.n_experts = 256, .n_used = 8, .gating = gating};
      shape.normalize_weights = gating == Gating::sigmoid;
      shape.weights_scale = 2.5f;
      shape.group_rule = rule;
      shape.n_groups = 8;
      shape.n_groups_used = 4;
      check_routing(shape, logits, bias);
      check_routing(shape, logits, {});
      check_routing(shape, std::vector<float>(512, 1.0f), {});
    }
  }
  const MoeShape lite{.n_experts = 64, .n_used = 6};
  check_routing(lite, random_floats(5 * 64, 7), {});
  MoeShape small{.n_experts = 4, .n_used = 4, .gating = Gating::sigmoid};
  check_routing(small, {1, -INFINITY, 3, 2}, {});
  DeviceBuffer<float> damaged(std::vector<float>{1, NAN, 3, 2}), weights(4);
  DeviceBuffer<int32_t> ids(4);
  route_tokens_cuda(small, {damaged.data(), 4}, nullptr, 1, ids.data(), weights.data(), stream());
  CHECK(written(ids) == std::vector<int32_t>{2, 3, 0, 1});
}

TEST_CASE("cuda: slots sorted by expert, and their tiles") {
  const uint32_t n_experts = 5, n_used = 2;
  for (const uint32_t n_tokens : {1u, 9u, 300u}) {
    std::vector<int32_t> ids = random_ids(n_tokens, n_used, 4);  // nobody chose expert 4
    const auto n_slots = static_cast<uint32_t>(ids.size());
    const std::vector<int32_t> local{3, -1, 0, 1, 2};
    const uint32_t max_tiles = DeviceRoutes::max_tiles(n_slots, 4);
    DeviceBuffer<int32_t> device_ids(ids), device_local(local), places(n_slots);
    DeviceBuffer<uint32_t> tokens(n_slots), offsets(5), n_tiles(1);
    DeviceBuffer<GemmTile> tiles(max_tiles);
    const DeviceRoutes routes{tokens.data(), places.data(), offsets.data(), tiles.data(),
                              n_tiles.data()};
    REQUIRE(sort_by_expert_cuda(device_ids.data(), device_local.data(), n_slots, n_used, 4, routes,
                                stream()) == 0);
    const auto found = written(offsets);
    const auto found_places = written(places);
    const auto found_tokens = tokens.download();
    const Routes expected = sort_by_expert(ids, n_experts);
    uint32_t at = 0, n_found_tiles = 0;
    const std::vector<uint32_t> order{2, 3, 4, 0};  // the experts of matrices 0 to 3
    for (uint32_t m = 0; m < 4; ++m) {
      CHECK(found[m] == at);
      uint32_t n = 0;
      for (uint32_t i = expected.offsets[order[m]]; i < expected.offsets[order[m] + 1]; ++i, ++n) {
        CHECK(found_places[expected.slots[i]] == static_cast<int32_t>(at));
        CHECK(found_tokens[at++] == expected.slots[i] / n_used);
      }
      for (uint32_t first = 0; first < n; first += kTileOutputs) {
        const GemmTile tile = tiles.download()[n_found_tiles++];
        CHECK(tile.matrix == static_cast<int32_t>(m));
        CHECK(tile.first == found[m] + first);
        CHECK(tile.n == std::min(kTileOutputs, n - first));
      }
    }
    CHECK(found[4] == at);
    CHECK(written(n_tiles)[0] == n_found_tiles);
    for (uint32_t slot = 0; slot < n_slots; ++slot) {
      if (ids[slot] == 1) CHECK(found_places[slot] == -1);
    }
  }
}

TEST_CASE("cuda: routed experts, few and many tokens, apart and merged") {
  const FfnTypes mixes[] = {{DType::q4_k, DType::q4_k, DType::q6_k},
                            {DType::q8_0, DType::q5_0, DType::q8_0},
                            {DType::bf16, DType::bf16, DType::bf16}};
  for (const FfnTypes& types : mixes) {
    const bool is_k = types.down == DType::q6_k;
    const TestExperts experts(types, 256, is_k ? 256 : 96, 5);
    for (const uint64_t n_tokens : {1, 2, 8, 9, 40}) {
      CAPTURE(n_tokens);
      CAPTURE(name_of(types.gate));
      const MoeCase c(experts, 2, random_ids(n_tokens, 2, 4), Spread::gaussian);
      const double limit = n_tokens <= kMaxGemvTokens ? kVectors : kTiles;
      const auto y = same_under_schedules([&] { return run(c, experts.packed(), {}); });
      CHECK(error(c, y) < limit);
      const ExpertWeights last = experts.layouts().back();
      if (last.is_merged()) CHECK(run(c, last, {}) == y);
    }
  }
}

TEST_CASE("cuda: experts that are elsewhere add nothing") {
  const TestExperts experts({DType::q8_0, DType::q8_0, DType::q8_0}, 128, 64, 4);
  // Expert 1 is elsewhere; the others' matrices stand where they stood.
  const std::vector<int32_t> local{0, -1, 2, 3};
  for (const uint64_t n_tokens : {3, 20}) {
    MoeCase c(experts, 2, random_ids(n_tokens, 2, 4), Spread::gaussian);
    const auto y = run(c, experts.packed(), local);
    c.sums.assign(c.sums.size(), 0);
    for (size_t slot = 0; slot < c.ids.size(); ++slot) {
      if (c.ids[slot] == 1) continue;
      const uint64_t t = slot / 2;
      const auto out = experts.output(static_cast<uint64_t>(c.ids[slot]), &c.x[t * 128]);
      for (uint64_t i = 0; i < 128; ++i) c.sums[t * 128 + i] += c.weights[slot] * out[i];
    }
    CHECK(error(c, y) < (n_tokens <= kMaxGemvTokens ? kVectors : kTiles));
  }
}

TEST_CASE("cuda: rows of the slots of a range of experts, for their sum elsewhere") {
  const TestExperts experts({DType::q4_0, DType::q4_0, DType::q5_1}, 128, 64, 6);
  for (const uint64_t n_tokens : {1, 3, 20, 150}) {
    const MoeCase c(experts, 3, random_ids(n_tokens, 3, 6), Spread::gaussian);
    RelativeRms rms;
    for (const auto& [first, n] : {std::pair{0u, 2u}, {2u, 3u}, {5u, 1u}}) {
      DeviceNets nets(experts.packed().range(first, n));
      DeviceBuffer<float> x(c.x),
          rows(std::vector<float>(c.ids.size() * 128, std::numeric_limits<float>::quiet_NaN()));
      DeviceBuffer<int32_t> ids(c.ids);
      MoeFfnCudaArgs args;
      args.nets = nets.ffn;
      args.n_matrices = n;
      args.n_experts = 6;
      args.first_expert = first;
      args.n_tokens = static_cast<uint32_t>(n_tokens);
      args.n_used = 3;
      args.ids = ids.data();
      args.x = {x.data(), 128};
      args.slot_rows = rows.data();
      DeviceBuffer<std::byte> scratch(moe_ffn_scratch_bytes(args));
      args.scratch = scratch.data();
      REQUIRE(moe_ffn_cuda(args, stream()) == 0);
      const std::vector<float> found = rows.download();
      size_t row = 0;
      for (size_t slot = 0; slot < c.ids.size(); ++slot) {
        const auto id = static_cast<uint32_t>(c.ids[slot]);
        if (id - first >= n) continue;
        const auto out = experts.output(id, &c.x[slot / 3 * 128]);
        for (size_t i = 0; i < 128; ++i) rms.add(double{found[row * 128 + i]}, out[i]);
        ++row;
      }
      // Nothing is written behind them.
      for (size_t i = row * 128; i < found.size(); ++i) REQUIRE(std::isnan(found[i]));
    }
    CHECK(rms.value() < (n_tokens <= kMaxGemvTokens ? kVectors : kTiles));
  }
}

TEST_CASE("cuda: a shared expert is a net for all tokens") {
  const TestExperts experts({DType::q4_0, DType::q4_0, DType::q5_1}, 256, 160, 1);
  for (const uint64_t n_tokens : {1, 30}) {
    MoeCase c(experts, 1, std::vector<int32_t>(n_tokens, 0), Spread::gaussian);
    for (size_t i = 0; i < c.sums.size(); ++i) c.sums[i] /= c.weights[i / 256];
    DeviceNets nets(experts.packed());
    DeviceBuffer<float> x(c.x), y(c.unwritten());
    MoeFfnCudaArgs args;
    args.nets = nets.ffn;
    args.n_tokens = static_cast<uint32_t>(n_tokens);
    args.x = {x.data(), 256};
    args.y = {y.data(), 256};
    DeviceBuffer<std::byte> scratch(moe_ffn_scratch_bytes(args));
    args.scratch = scratch.data();
    REQUIRE(moe_ffn_cuda(args, stream()) == 0);
    CHECK(error(c, y.download()) < (n_tokens <= kMaxGemvTokens ? kVectors : kTiles));
  }
}
