#include "runtime/layer.h"

#include <algorithm>
#include <functional>

#include "tensor/simd_level.h"

namespace hybrid {
namespace {

/// How finely the output of attention is rounded. Where bytes are multiplied, twice as many
/// products for several tokens would buy a KL divergence of 1.01e-4 instead of 1.08e-4
/// (docs/kernels.md).
Precision attended_precision(uint32_t n_tokens) {
  const bool costs_double = n_tokens > 1 && simd_level() != SimdLevel::amx;
  return costs_double ? Precision::normal : Precision::exact;
}

/// hidden += the attention of the layer.
void add_attention(const LayerWeights& w, uint32_t cache_layer, const StepContext& step,
                   Lane& lane) {
  const MlaShape& mla = step.config.mla;
  const uint32_t n = step.batch.n_tokens;
  const Activations& act = lane.act;
  LayerOps& ops = *lane.ops;

  ops.norm(act.hidden, n, w.attn_norm, act.normed);
  ops.set_input(act.normed, n, step.config.n_embd, Precision::exact);
  ops.product(w.kv_a, act.kv);
  ops.store_latents(w, cache_layer, act.kv);
  if (mla.q_lora == 0) {
    ops.product(w.q, act.q);
  } else {
    ops.product(w.q_a, act.q_latent);
    ops.norm(act.q_latent, n, w.q_a_norm, act.q_latent);
    ops.set_input(act.q_latent, n, mla.q_lora, Precision::exact);
    ops.product(w.q_b, act.q);
  }
  ops.rotate_queries(act.q);
  ops.attend(w, cache_layer, act.q, act.attended);
  ops.set_input(act.attended, n, uint64_t{mla.n_heads} * mla.v_dim, attended_precision(n));
  ops.product(w.attn_output, act.projected);
  ops.add(act.projected, act.hidden);
}

/// The input of feed-forward nets.
void set_normed_input(const StepContext& step, Lane& lane) {
  // A single token waits for memory: fine rounding costs it nothing.
  const uint32_t n = step.batch.n_tokens;
  lane.ops->set_input(lane.act.normed, n, step.config.n_embd,
                      n == 1 ? Precision::fine : Precision::normal);
}

/// ids and weights of the home's lane. Choices are replayed and recorded on the host.
void route(const LayerWeights& w, uint32_t moe_layer, const StepContext& step, uint32_t home) {
  Lanes& lanes = step.lanes;
  const Activations& act = lanes[home].act;
  lanes[home].ops->product(w.router, act.router);
  const bool on_host = step.batch.replay != nullptr || step.batch.record != nullptr;
  const uint32_t there = on_host ? Lanes::kHost : home;
  lanes.send(&Activations::router, step.config.moe.n_experts, home, there);
  lanes.arrive(home, there);
  const Activations& at = lanes[there].act;
  lanes[there].ops->route(w, moe_layer, at.router, at.ids, at.weights);
  lanes.send(&Activations::ids, step.config.moe.n_used, there, home);
  lanes.send(&Activations::weights, step.config.moe.n_used, there, home);
}

/// A net or the routed experts of a layer, on a processor of their own or at home, where nothing is
/// copied.
class LayerPart {
 public:
  /// result: the buffer that compute()'s body fills.
  LayerPart(const StepContext& step, uint32_t home, uint32_t there, float* Activations::*result)
      : step_(step), home_(home), there_(there), result_(result) {}

  /// Calls body(lane) with the input set, and sends the result home.
  template <class Body>
  void compute(const Body& body) {
    Lanes& lanes = step_.lanes;
    lanes.arrive(home_, there_);
    if (there_ != home_ || !step_.is_alone) set_normed_input(step_, lanes[there_]);
    body(lanes[there_]);
    lanes.send(result_, step_.config.n_embd, there_, home_);
  }

  void add_result() {
    Lane& lane = step_.lanes[home_];
    step_.lanes.arrive(there_, home_);
    lane.ops->add(lane.act.*result_, lane.act.hidden);
  }

 private:
  const StepContext& step_;
  uint32_t home_, there_;
  float* Activations::*result_;
};

/// The feed-forward part of a layer, in the two halves of a step.
class FeedForward {
 public:
  FeedForward(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
              const StepContext& step)
      : w_(w),
        place_(place),
        step_(step),
        is_dense_(step.config.is_dense_layer(layer)),
        has_net_(is_dense_ || step.config.moe.n_shared > 0),
        net_(step, place.home, place.net, &Activations::projected),
        routed_(step, place.home, place.routed, &Activations::routed) {}

  void send_input() {
    for (uint32_t p = 0; p < step_.lanes.size(); ++p) {
      const bool has_routed = !is_dense_ && place_.has_routed(p);
      if (has_routed || (has_net_ && place_.net == p)) send(&Activations::normed, n_embd(), p);
      if (has_routed || (!is_dense_ && place_.routed == p)) {
        send(&Activations::ids, n_used(), p);
        send(&Activations::weights, n_used(), p);
      }
    }
  }

  /// What lies on the host, or all that does not.
  void compute(bool on_host) {
    if (has_net_ && (place_.net == Lanes::kHost) == on_host) {
      const FfnWeights& net = is_dense_ ? w_.dense : w_.shared;
      net_.compute([&](Lane& lane) { lane.ops->gated_ffn(net, lane.act.projected); });
    }
    if (is_dense_) return;
    if (!place_.split.empty() && !on_host) compute_rows();
    if ((place_.routed == Lanes::kHost) != on_host) return;
    routed_.compute([&](Lane& lane) {
      RoutedExperts experts{w_.experts};
      const std::function<void()> arrive = [&] { arrive_rows(); };
      if (!place_.split.empty()) {
        experts.elsewhere = fetch_rows(lane);
        experts.arrive = &arrive;
      }
      lane.ops->routed_experts(experts, lane.act.ids, lane.act.weights, lane.act.routed);
    });
  }

  void add_results() {
    if (has_net_) net_.add_result();
    if (!is_dense_) routed_.add_result();
  }

 private:
  uint64_t n_embd() const { return step_.config.n_embd; }
  uint64_t n_used() const { return step_.config.moe.n_used; }

  template <class T>
  void send(T* Activations::*buffer, uint64_t n_per_token, uint32_t to) {
    step_.lanes.send(buffer, n_per_token, place_.home, to);
  }

  /// Calls body(part) for those that devices have of split experts.
  template <class Body>
  void for_parts_on_devices(const Body& body) {
    for (size_t i = 0; i < place_.split.size(); ++i) {
      if (place_.split[i].processor != Lanes::kHost) body(w_.experts[i], place_.split[i].processor);
    }
  }

  void compute_rows() {
    for_parts_on_devices([&](const ExpertPart& part, uint32_t processor) {
      Lane& lane = step_.lanes[processor];
      step_.lanes.arrive(place_.home, processor);
      if (processor != place_.home || !step_.is_alone) set_normed_input(step_, lane);
      lane.ops->expert_rows(part, lane.act.ids, lane.act.slot_rows);
    });
  }

  /// Queues the copies of what devices have made, now that the host knows how many rows that is.
  std::span<const ExpertRows> fetch_rows(Lane& host) {
    std::vector<ExpertRows>& fetched = step_.lanes.fetched();
    fetched.clear();
    const std::span ids(host.act.ids, step_.batch.n_tokens * n_used());
    uint64_t at = 0;
    for_parts_on_devices([&](const ExpertPart& part, uint32_t processor) {
      ExpertRows rows{part.first, part.n, nullptr};
      const auto n = static_cast<uint64_t>(
          std::ranges::count_if(ids, [&](int32_t id) { return rows.has(id); }));
      rows.rows = step_.lanes.fetch_slot_rows(processor, n, n_embd(), at);
      fetched.push_back(rows);
      at += n;
    });
    return fetched;
  }

  void arrive_rows() {
    for_parts_on_devices([&](const ExpertPart&, uint32_t processor) {
      step_.lanes.arrive(processor, Lanes::kHost);
    });
  }

  const LayerWeights& w_;
  const LayerPlacement& place_;
  const StepContext& step_;
  bool is_dense_, has_net_;
  LayerPart net_, routed_;
};

}  // namespace

void begin_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
                 StepContext& step) {
  Lanes& lanes = step.lanes;
  lanes.send(&Activations::hidden, step.config.n_embd, step.at, place.home);
  lanes.arrive(step.at, place.home);
  step.at = place.home;
  Lane& home = lanes[place.home];
  add_attention(w, place.cache_layer, step, home);

  home.ops->norm(home.act.hidden, step.batch.n_tokens, w.ffn_norm, home.act.normed);
  set_normed_input(step, home);
  if (!step.config.is_dense_layer(layer)) {
    route(w, layer - step.config.n_dense_lead, step, place.home);
  }
  FeedForward net(w, place, layer, step);
  net.send_input();
  net.compute(false);
}

void end_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
               StepContext& step) {
  FeedForward net(w, place, layer, step);
  net.compute(true);
  net.add_results();
}

void decoder_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
                   StepContext& step) {
  begin_layer(w, place, layer, step);
  end_layer(w, place, layer, step);
}

}  // namespace hybrid
