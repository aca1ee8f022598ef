#include "runtime/measure_rates.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include "attention/mla_attention.h"
#include "base/error.h"
#include "base/rounding.h"
#include "experts/moe_ffn.h"
#include "experts/router.h"
#include "numa/huge_buffer.h"
#include "runtime/model_config.h"
#include "tensor/parallel_matmul.h"
#include "tensor/rms_norm.h"
#include "tensor/rope.h"
#include "tensor/row_ops.h"
#include "tensor/simd_level.h"

namespace hybrid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kProductTokens[] = {1, 16, 128, 512};
constexpr uint32_t kExpertTokens[] = {1, 8, 32, 128};  // a mean of routed experts
constexpr uint32_t kNetTokens = 512;                   // a single net with the whole micro-batch
constexpr uint32_t kBatchTokens = 512;
constexpr uint32_t kPast[] = {256, 4096};
constexpr uint64_t kMaxRows = 16384;

std::vector<float> random_floats(uint64_t n) {
  static const std::vector<float> block = [] {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> floats(1 << 16);
    for (float& f : floats) f = normal(random);
    return floats;
  }();
  std::vector<float> floats(n);
  for (uint64_t i = 0; i < n; ++i) floats[i] = block[i % block.size()];
  return floats;
}

/// Random bytes that serve as weights of any type, file's blocks as well as panels: no two of them
/// are a half float that is infinite, not a number or denormal.
class RandomWeights {
 public:
  RandomWeights(uint64_t n_bytes, Workers& workers) : bytes_(n_bytes), exponents_(kMaxPanels) {
    constexpr uint64_t kChunk = uint64_t{1} << 20;
    workers.parallel_for(divide_up(n_bytes, kChunk), 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t i = begin; i < end; ++i) {
        fill(i, bytes_.data() + i * kChunk, std::min(kChunk, n_bytes - i * kChunk));
      }
    });
  }

  /// A stack of n_matrices that was not read for as long as possible.
  Weight next(DType type, uint64_t n_cols, uint64_t n_rows, uint64_t n_matrices, bool packed) {
    Weight w;
    w.rows.type = type;
    w.rows.ne = {n_cols, n_rows, n_matrices, 1};
    const bool in_panels = packed && type != DType::f32;
    const uint64_t n_rows_bytes = w.rows.n_rows() * w.rows.row_bytes();
    const uint64_t n = round_up(std::max(n_rows_bytes, hybrid::packed_bytes(w)), 4096);
    HYBRID_CHECK(n <= bytes_.n_bytes() && w.n_panels() * n_matrices <= kMaxPanels);
    if (at_ + n > bytes_.n_bytes()) at_ = 0;
    w.rows.data = {bytes_.data() + at_, n_rows_bytes};
    if (in_panels) {
      w.panels = bytes_.data() + at_;
      w.exponents = exponents_.data();
    }
    at_ += n;
    return w;
  }

  /// Leaves of the processor's caches what fits beside it.
  void read_through(Workers& workers) {
    const auto* words = reinterpret_cast<const uint64_t*>(bytes_.data());
    workers.parallel_for(bytes_.n_bytes() / sizeof(uint64_t), 1 << 19,
                         [&](uint64_t begin, uint64_t end) {
                           uint64_t sum = 0;
                           for (uint64_t i = begin; i < end; i += 8) sum += words[i];
                           sink_ += sum;
                         });
  }

  std::byte* data() { return bytes_.data(); }
  int8_t* exponents() { return exponents_.data(); }
  uint64_t n_bytes() const { return bytes_.n_bytes(); }

 private:
  static constexpr uint64_t kMaxPanels = 1 << 20;

  static void fill(uint64_t seed, std::byte* to, uint64_t n) {
    std::mt19937_64 random(seed);
    for (uint64_t i = 0; i + 8 <= n; i += 8) {
      // Sign and low bits are random; the exponent's high bits are 01: 2^-7 to 2^0 as half floats.
      const uint64_t word = (random() & 0x9f9f9f9f9f9f9f9fu) | 0x2020202020202020u;
      std::memcpy(to + i, &word, 8);
    }
  }

  HugeBuffer bytes_;
  std::vector<int8_t> exponents_;
  uint64_t at_ = 0;
  std::atomic<uint64_t> sink_{0};  // the reads must not be left out
};

class Measurer {
 public:
  Measurer(const RateRequest& request, const RateEffort& effort, Workers& workers,
           const std::atomic<bool>* stop)
      : request_(request),
        workers_(workers),
        stop_(stop),
        seconds_of_each_(effort.seconds_of_each),
        bytes_(std::max(effort.buffer_bytes, least_bytes()), workers) {}

  std::vector<MeasuredRate> run() {
    measure_all();
    measure_attention();
    if (stopped()) return {};
    return std::move(rates_);
  }

 private:
  void measure_all() {
    for (const RateKind& kind : request_.kinds) {
      if (kind.op == RateOp::product) {
        for (const uint32_t n : kProductTokens) measure_product(kind, n);
        continue;
      }
      const MatrixSize size = kind.sizes.front();
      measure_experts(kind, size, 1, n_used(), n_used());
      for (const uint32_t n : kExpertTokens) {
        if (n > 1 && n_experts() > 1) measure_routed(kind, n);
      }
      measure_experts(kind, {size.n_cols, size.n_rows * n_shared()}, kNetTokens, 1, 1);
    }
    for (const uint32_t n : kProductTokens) measure_layer(n);
  }

  /// The mean time of a call, of calls for about seconds_of_each_; of one that takes long the first
  /// time. What the system and other machines on the same processor take of it is in the model's
  /// steps, too.
  /// before(): not counted, so the calls are limited.
  template <class Call, class Before>
  double mean_seconds(const Call& call, const Before& before, uint32_t most_calls) const {
    const auto once = [&] {
      before();
      const auto start = Clock::now();
      call();
      return std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
    };
    if (const double first = once(); first > 3 * seconds_of_each_) return first;  // else a warm-up
    double seconds = 0;
    uint32_t n = 0;
    for (; n < 3 || (seconds < seconds_of_each_ && n < most_calls); ++n) seconds += once();
    return seconds / n;
  }
  template <class Call>
  double mean_seconds(const Call& call) const {
    return mean_seconds(
        call, [] {}, UINT32_MAX);
  }

  bool stopped() const { return stop_ != nullptr && stop_->load(std::memory_order_relaxed); }

  uint32_t n_used() const { return std::max(request_.moe.n_used, 1u); }
  uint32_t n_experts() const { return std::max(request_.moe.n_experts, 1u); }

  /// As many experts as keep each call short, at least as many as there are threads.
  uint32_t n_jobs(uint32_t n_tokens) const {
    const auto n_threads = static_cast<uint32_t>(workers_.n_threads());
    const uint32_t n = std::max({n_threads, n_used(), std::min(16u, 512 / n_tokens)});
    return std::min(n, n_experts());
  }

  /// Of the largest stack that a call takes.
  uint64_t least_bytes() const {
    uint64_t n = 1 << 20;
    for (const RateKind& kind : request_.kinds) {
      const uint64_t n_matrices = kind.op == RateOp::product ? 1 : n_jobs(1) + n_shared();
      for (const MatrixSize& size : kind.sizes) {
        const auto bytes = [&](uint64_t n_cols, uint64_t n_rows) {
          return round_up(n_rows, kPanelRows) * panel_bytes(kind.type, n_cols) / kPanelRows;
        };
        const uint64_t stack = std::max(bytes(size.n_cols, size.n_rows),
                                        bytes(round_up(size.n_rows, 512), size.n_cols));
        n = std::max(n, n_matrices * stack + 4096);
      }
    }
    return std::max(n, 2 * mla_decode_bytes(request_.attention, up_projection(nullptr)));
  }
  uint32_t n_shared() const { return std::max(request_.moe.n_shared, 1u); }

  void add(const RateKind& kind, double n_tokens, double seconds, double n_products) {
    rates_.push_back({.op = kind.op,
                      .type = kind.type,
                      .n_tokens = static_cast<uint32_t>(n_tokens),
                      .flop_per_s = 2 * n_products / seconds,
                      .packed = kind.packed});
  }

  void measure_product(const RateKind& kind, uint32_t n_tokens) {
    if (stopped()) return;
    uint64_t most_cols = 0, most_rows = 0;
    double n_elements = 0;
    for (const MatrixSize& size : kind.sizes) {
      most_cols = std::max(most_cols, size.n_cols);
      most_rows = std::max(most_rows, size.n_rows);
      n_elements += static_cast<double>(size.n_cols * size.n_rows);
    }
    const std::vector<float> x = random_floats(n_tokens * most_cols);
    std::vector<float> y(n_tokens * most_rows);
    MatmulInput input;
    const double seconds = mean_seconds([&] {
      for (const MatrixSize& size : kind.sizes) {
        if (!size.same_input) input.set(x.data(), n_tokens, size.n_cols, Precision::exact);
        matmul(bytes_.next(kind.type, size.n_cols, size.n_rows, 1, kind.packed), input, y.data(),
               workers_);
      }
    });
    add(kind, n_tokens, seconds, n_tokens * n_elements);
  }

  /// The element-wise work of a layer, in its regions.
  void measure_layer(uint32_t n_tokens) {
    if (stopped()) return;
    const uint64_t n = request_.n_embd;
    const MlaShape& s = request_.attention;
    MoeShape moe = request_.moe;
    moe.n_experts = n_experts(), moe.n_used = n_used();
    std::vector<float> hidden = random_floats(n_tokens * n), normed(hidden.size());
    std::vector<float> q = random_floats(uint64_t{n_tokens} * s.n_heads * s.qk_dim());
    const std::vector<float> weight(n, 1.0F), table = random_floats(s.qk_rope);
    const std::vector<float> logits = random_floats(moe.n_experts);
    const std::vector<float> bias(moe.selection_bias ? moe.n_experts : 0);
    const auto for_tokens = [&](const auto& body) {
      workers_.parallel_for(n_tokens, 8, [&](uint64_t begin, uint64_t end) {
        for (uint64_t t = begin; t < end; ++t) body(t);
      });
    };
    const auto norm = [&] {
      for_tokens([&](uint64_t t) {
        rms_norm(hidden.data() + t * n, weight, 1e-6F, normed.data() + t * n);
      });
    };
    const auto add_rows = [&] {
      workers_.parallel_for(n_tokens * n, 1 << 15, [&](uint64_t begin, uint64_t end) {
        row_ops().add(normed.data() + begin, hidden.data() + begin, end - begin);
      });
    };
    const double seconds = mean_seconds([&] {
      norm();
      for_tokens([&](uint64_t t) {
        for (uint64_t i = t * s.n_heads; i < (t + 1) * s.n_heads; ++i) {
          rotate_pairs(q.data() + i * s.qk_dim() + s.qk_nope, table.data(), s.qk_rope);
        }
      });
      add_rows();
      norm();
      for_tokens([&](uint64_t) {
        std::vector<int32_t> ids(moe.n_used);
        std::vector<float> weights(moe.n_used);
        route_token(moe, logits, bias, ids, weights);
      });
      add_rows();
    });
    add({.op = RateOp::layer}, n_tokens, seconds, static_cast<double>(n_tokens * n));
  }

  /// Experts that meet n_tokens in the mean.
  void measure_routed(const RateKind& kind, uint32_t n_tokens) {
    const uint32_t n = n_jobs(n_tokens), n_used = std::min(this->n_used(), n);
    measure_experts(kind, kind.sizes.front(), std::max(n_tokens * n / n_used, 1u), n, n_used);
  }

  void measure_experts(const RateKind& kind, MatrixSize size, uint32_t n_tokens, uint32_t n_experts,
                       uint32_t n_used) {
    if (stopped()) return;
    const MoeShape shape{
        .n_experts = n_experts, .n_used = n_used, .ff_dim = static_cast<uint32_t>(size.n_rows)};
    const std::vector<float> x = random_floats(n_tokens * size.n_cols);
    std::vector<float> y(x.size()), weights(uint64_t{n_tokens} * n_used, 1.0F / 8);
    const std::vector<int32_t> ids = random_choice(n_tokens, shape);
    MatmulInput input;
    MoeFfnScratch scratch;
    const auto stack = [&](uint64_t n_cols, uint64_t n_rows) {
      return bytes_.next(kind.type, n_cols, n_rows, n_experts, kind.packed);
    };
    const double seconds = mean_seconds([&] {
      const ExpertWeights experts{.gate = stack(size.n_cols, size.n_rows),
                                  .up = stack(size.n_cols, size.n_rows),
                                  .gate_up = {},
                                  .down = stack(size.n_rows, size.n_cols)};
      input.set(x.data(), n_tokens, size.n_cols,
                n_tokens == 1 ? Precision::fine : Precision::normal);
      moe_ffn({input, y.data(), ids, weights}, shape, experts, scratch, workers_);
    });
    const double n_slots = static_cast<double>(ids.size());
    const double mean = n_slots / static_cast<double>(n_active(ids));
    add(kind, std::max(1.0, std::round(mean)), seconds,
        n_slots * 3 * static_cast<double>(size.n_rows * size.n_cols));
  }

  static uint64_t n_active(std::vector<int32_t> ids) {
    std::sort(ids.begin(), ids.end());
    return static_cast<uint64_t>(std::unique(ids.begin(), ids.end()) - ids.begin());
  }

  static std::vector<int32_t> random_choice(uint32_t n_tokens, const MoeShape& shape) {
    std::mt19937 random(11);
    std::vector<int32_t> all(shape.n_experts), ids;
    std::iota(all.begin(), all.end(), 0);
    for (uint32_t t = 0; t < n_tokens; ++t) {
      std::shuffle(all.begin(), all.end(), random);
      ids.insert(ids.end(), all.begin(), all.begin() + shape.n_used);
    }
    return ids;
  }

  MlaUpProjection up_projection(const std::byte* data) const {
    const MlaShape& s = request_.attention;
    MlaUpProjection up;
    up.kv_b.type = request_.up_type;
    up.kv_b.ne = {s.kv_lora, uint64_t{s.n_heads} * (s.qk_nope + s.v_dim), 1, 1};
    up.kv_b.data = {data, data == nullptr ? 0 : up.kv_b.n_rows() * up.kv_b.row_bytes()};
    return up;
  }

  void measure_attention() {
    if (stopped()) return;
    const MlaShape& s = request_.attention;
    const AttentionOptions options{.key_type = request_.cache_type,
                                   .value_type = request_.cache_type};
    const uint32_t n_ctx = kPast[1] + kBatchTokens;
    const uint32_t n_layers = std::min(request_.n_layers, 32u);
    MlaAttention attention(MlaPlan(s, options, n_ctx, kBatchTokens));
    KvCache cache(mla_cache_shape(s, n_layers, n_ctx, options));
    const MlaUpProjection up = up_projection(bytes_.data());
    const bool prepared = simd_level() != SimdLevel::scalar && mla_decode_bytes(s, up) > 0;
    const MlaDecodeWeights decode =
        prepared ? place_mla_decode(s, up, bytes_.data(), bytes_.exponents()) : MlaDecodeWeights{};
    const std::vector<float> rows = random_floats(uint64_t{kBatchTokens} * s.cache_row());
    for (uint32_t layer = 0; layer < n_layers; ++layer) {
      for (uint32_t at = 0; at < n_ctx; at += kBatchTokens) {
        attention.store(up, rows.data(), kBatchTokens, cache, layer, at, workers_);
      }
    }
    const std::vector<float> q = random_floats(uint64_t{kBatchTokens} * s.n_heads * s.qk_dim());
    std::vector<float> out(uint64_t{kBatchTokens} * s.n_heads * s.v_dim);
    uint32_t layer = 0;
    const auto measure = [&](uint32_t n_tokens, uint32_t n_past) {
      const auto attend = [&] {
        const MlaArgs args{.kq_scale = 0.1F,
                           .layer = layer,
                           .first_position = n_past,
                           .n_tokens = n_tokens,
                           .q = q.data(),
                           .out = out.data()};
        attention.attend(args, up, decode, cache, workers_);
        layer = (layer + 1) % n_layers;
      };
      // Between two of a layer's calls a step reads all weights: its rows are in no cache.
      constexpr uint32_t kMostCalls = 6;
      const auto forget = [&] { bytes_.read_through(workers_); };
      const double seconds =
          n_tokens > 1 ? mean_seconds(attend) : mean_seconds(attend, forget, kMostCalls);
      const AttentionWork work{.shape = s, .cache_type = request_.cache_type};
      return MeasuredRate{.op = RateOp::attention,
                          .type = request_.cache_type,
                          .n_tokens = n_tokens,
                          .n_past = n_past,
                          .flop_per_s = work.flop(n_past, n_tokens) / seconds};
    };
    for (const uint32_t n_past : kPast) rates_.push_back(measure(1, n_past));
    for (const uint32_t n_past : {0u, kPast[1]}) rates_.push_back(measure(kBatchTokens, n_past));
  }

  const RateRequest& request_;
  Workers& workers_;
  const std::atomic<bool>* stop_;
  double seconds_of_each_;
  RandomWeights bytes_;
  std::vector<MeasuredRate> rates_;
};

}  // namespace

RateRequest rates_needed(const ModelConfig& config, const ModelWeights& weights, DType cache_type,
                         bool pack, const TensorSet& kept) {
  RateRequest request{.kinds = {},
                      .n_embd = config.n_embd,
                      .n_layers = config.n_layers,
                      .moe = config.moe,
                      .attention = config.mla,
                      .cache_type = cache_type};
  std::set<std::tuple<RateOp, DType, bool>> known;  // from layers behind
  const auto add = [&](RateOp op, const Weight& w, MatrixSize size) {
    const DType type = w.type();
    const bool packed = type == DType::f32 || (pack && !kept.contains(w.source));
    if (known.contains({op, type, packed})) return;
    const auto at = std::find_if(
        request.kinds.begin(), request.kinds.end(),
        [&](const RateKind& k) { return k.op == op && k.type == type && k.packed == packed; });
    if (at == request.kinds.end()) {
      request.kinds.push_back({op, type, packed, {size}});
    } else if (op == RateOp::product) {
      at->sizes.push_back(size);
    }
  };
  const auto add_matrix = [&](const Weight& w, const Weight& before = {}) {
    if (w.empty()) return;
    const bool same_input = !before.empty() && before.type() == w.type();
    add(RateOp::product, w, {w.n_cols(), w.n_rows(), same_input});
  };
  const auto add_net = [&](const Weight& w, uint64_t n_ff) {
    if (w.empty()) return;
    // Of every type both ways: rows of gate and up, columns of down.
    const uint64_t block = info_of(w.type()).block_size;
    add(RateOp::experts, w, {round_up(config.n_embd, block), round_up(n_ff, block)});
  };
  for (size_t i = weights.layers.size(); i-- > 0;) {
    const LayerWeights& w = weights.layers[i];
    add_matrix(w.kv_a);
    add_matrix(w.q, w.kv_a);
    add_matrix(w.q_a, w.kv_a);
    add_matrix(w.q_b);
    add_matrix(w.attn_output);
    add_matrix(w.router);
    const uint64_t n_ff = config.moe.ff_dim > 0 ? config.moe.ff_dim : config.n_ff_dense;
    for (const ExpertPart& part : w.experts) {
      const ExpertWeights& e = part.w;
      for (const Weight* each : {&e.gate, &e.up, &e.gate_up, &e.down}) add_net(*each, n_ff);
    }
    for (const Weight* each : {&w.shared.gate, &w.shared.up, &w.shared.down, &w.dense.gate,
                               &w.dense.up, &w.dense.down}) {
      add_net(*each, n_ff);
    }
    for (const RateKind& kind : request.kinds) known.emplace(kind.op, kind.type, kind.packed);
    request.up_type = w.kv_up.is_split() ? w.kv_up.v_b.type : w.kv_up.kv_b.type;
  }
  const Weight& output = weights.output;
  add(RateOp::product, output, {output.n_cols(), std::min(output.n_rows(), kMaxRows), false});
  return request;
}

std::vector<MeasuredRate> typical_rates(const std::vector<std::vector<MeasuredRate>>& rounds) {
  if (rounds.empty()) return {};
  std::vector<MeasuredRate> typical = rounds.front();
  std::vector<double> found(rounds.size());
  for (size_t i = 0; i < typical.size(); ++i) {
    for (size_t r = 0; r < rounds.size(); ++r) {
      HYBRID_CHECK(rounds[r].size() == typical.size() && rounds[r][i].op == typical[i].op);
      found[r] = rounds[r][i].flop_per_s;
    }
    const auto middle = found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2);
    std::nth_element(found.begin(), middle, found.end());
    typical[i].flop_per_s = *middle;
  }
  return typical;
}

std::vector<MeasuredRate> measure_rates(const RateRequest& request, const RateEffort& effort,
                                        Workers& workers, const std::atomic<bool>* stop) {
  return Measurer(request, effort, workers, stop).run();
}

}  // namespace hybrid
