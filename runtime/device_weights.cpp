#include "runtime/device_weights.h"

#include <algorithm>

#include "base/error.h"
#include "numa/huge_buffer.h"
#include "runtime/upload.h"
#include "tensor/mapped_file.h"

namespace hybrid {
namespace {

/// The parts of a model that a processor computes with.
struct Parts {
  std::vector<Weight*> matrices;
  std::vector<FloatVector*> vectors;
  std::vector<LayerWeights*> attention;  // of which the up-projections are these parts' too
  TensorView* embedding = nullptr;
};

void add_net(const FfnWeights& w, std::vector<Weight*>& to) {
  for (const Weight* each : {&w.gate, &w.up, &w.down}) to.push_back(const_cast<Weight*>(each));
}

void add_layer(LayerWeights& w, const LayerPlacement& place, uint32_t processor, Parts& parts) {
  if (place.home == processor) {
    parts.attention.push_back(&w);
    for (Weight* each : {&w.q, &w.q_a, &w.q_b, &w.kv_a, &w.attn_output, &w.router}) {
      parts.matrices.push_back(each);
    }
    for (FloatVector* each :
         {&w.attn_norm, &w.q_a_norm, &w.kv_a_norm, &w.ffn_norm, &w.router_bias}) {
      if (!each->empty()) parts.vectors.push_back(each);
    }
  }
  if (place.net == processor) {
    add_net(w.dense, parts.matrices);
    add_net(w.shared, parts.matrices);
  }
  for (size_t i = 0; i < w.experts.size(); ++i) {
    if (place.processor_of_part(i) != processor) continue;
    ExpertWeights& e = w.experts[i].w;
    for (Weight* each : {&e.gate, &e.up, &e.gate_up, &e.down}) parts.matrices.push_back(each);
  }
}

Parts parts_of(ModelWeights& weights, const ModelPlacement& placement, uint32_t processor) {
  Parts parts;
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    add_layer(weights.layers[i], placement.layers[i], processor, parts);
  }
  if (placement.embedding == processor) parts.embedding = &weights.token_embd;
  if (placement.output == processor) {
    parts.matrices.push_back(&weights.output);
    parts.vectors.push_back(&weights.output_norm);
  }
  std::erase_if(parts.matrices, [](const Weight* w) { return w->empty(); });
  return parts;
}

template <class T>
std::span<const std::byte> bytes_of(std::span<const T> values) {
  return std::as_bytes(values);
}

/// Lays arrays out one behind the other; without memory it only counts.
class Loader {
 public:
  Loader(Device& device, std::byte* memory, const DeviceWeightsArgs& args, Workers& workers)
      : at_(memory), args_(args), workers_(workers) {
    step_.device = device.title();
    if (memory != nullptr) upload_ = std::make_unique<Upload>(device);
  }

  void load(const Parts& parts, uint64_t n_all) {
    step_.n_all = n_all;
    // What is made of the up-projections needs their bytes in the file.
    for (LayerWeights* w : parts.attention) {
      load_decode(*w);
      if (in_panels()) load_keys(*w);
    }
    for (Weight* w : parts.matrices) load_matrix(*w);
    for (FloatVector* v : parts.vectors) {
      const auto* values = reinterpret_cast<const float*>(put(bytes_of(*v)));
      if (counts()) continue;
      *v = {values, v->size()};
    }
    if (!in_panels()) load_up_projections(parts);
    if (parts.embedding != nullptr) load_embedding(*parts.embedding);
    if (counts()) return;
    upload_->finish();
    step_.finished = true;
    if (args_.progress) args_.progress(step_);
  }

  uint64_t n_bytes() const { return n_bytes_; }

 private:
  bool counts() const { return upload_ == nullptr; }

  std::byte* take(uint64_t n) { return take_stack(1, n); }

  /// Of n_matrices, n bytes each. What is lost to alignment counts for each of them: so a part of a
  /// stack takes its share of the whole.
  std::byte* take_stack(uint64_t n_matrices, uint64_t n) {
    const uint64_t n_bytes = device_stack_bytes(n_matrices, n);
    std::byte* array = at_;
    if (at_ != nullptr) at_ += n_bytes;
    n_bytes_ += n_bytes;
    return array;
  }

  std::byte* put(std::span<const std::byte> bytes) {
    std::byte* to = take(bytes.size());
    if (!counts()) upload_->copy(to, bytes);
    return to;
  }

  void load_rows(TensorView& view, uint64_t n_matrices = 1) {
    if (view.empty()) return;
    std::byte* to = take_stack(n_matrices, view.data.size() / n_matrices);
    if (counts()) return;
    populate_pages(view.data);
    upload_->copy(to, view.data);
    release_pages(view.data);
    view.data = {to, view.data.size()};
    tell(view.data.size());
  }

  void load_up_projections(const Parts& parts) {
    for (LayerWeights* w : parts.attention) {
      for (TensorView* view : {&w->kv_up.kv_b, &w->kv_up.k_b, &w->kv_up.v_b}) load_rows(*view);
    }
  }

  void load_embedding(TensorView& view) {
    if (!in_panels()) return load_rows(view);
    Weight w{view};
    load_matrix(w);
    if (!counts()) view.data = {w.panels, packed_bytes(w)};
  }

  /// Whether all matrices are.
  bool in_panels() const { return args_.layout == DeviceLayout::panels; }

  void load_matrix(Weight& w) {
    if (!in_panels() && !args_.packed.contains(w.source)) {
      return load_rows(w.rows, w.n_matrices());
    }
    const bool with_exponents = !in_panels();
    const uint64_t n_panels = packed_panels(w), size = panel_bytes(w.type(), w.n_cols());
    std::byte* to = take_stack(w.n_matrices(), w.n_panels() * (size + (with_exponents ? 1 : 0)));
    if (counts()) return;
    std::vector<int8_t> exponents(n_panels);
    HYBRID_CHECK(size <= Upload::max_piece());
    const uint64_t n_piece = Upload::max_piece() / size;
    for (uint64_t first = 0; first < n_panels; first += n_piece) {
      const uint64_t n = std::min(n_piece, n_panels - first);
      std::byte* piece = upload_->next().data();
      workers_.parallel_for(n, 8, [&](uint64_t begin, uint64_t end) {
        pack_panels(w, first + begin, first + end, piece + begin * size,
                    exponents.data() + first + begin);
      });
      upload_->send(to + first * size, n * size);
      tell(n * size);
    }
    w.panels = to;
    if (!with_exponents) return;
    std::byte* exponents_to = to + n_panels * size;
    upload_->copy(exponents_to, bytes_of(std::span<const int8_t>(exponents)));
    w.exponents = reinterpret_cast<const int8_t*>(exponents_to);
  }

  void load_decode(LayerWeights& w) {
    const bool is_wanted = args_.decode || in_panels();
    const uint64_t n_bytes = is_wanted ? mla_decode_bytes(args_.mla, w.kv_up) : 0;
    if (n_bytes == 0) return;
    const uint64_t n_panels = mla_decode_panels(args_.mla, w.kv_up);
    std::byte* to = take(n_bytes + n_panels);
    if (counts()) return;
    made_ = HugeBuffer(n_bytes + n_panels);
    const MlaDecodeWeights made = place_mla_decode(
        args_.mla, w.kv_up, made_.data(), reinterpret_cast<int8_t*>(made_.data() + n_bytes));
    for_heads([&](uint32_t head) { make_mla_decode_head(args_.mla, w.kv_up, head, made); });
    upload_->copy(to, {made_.data(), n_bytes + n_panels});
    w.decode = place_mla_decode(args_.mla, w.kv_up, to, reinterpret_cast<int8_t*>(to + n_bytes));
    tell(n_bytes);
  }

  void load_keys(LayerWeights& w) {
    const uint64_t n_bytes = mla_key_bytes(args_.mla, w.kv_up);
    if (n_bytes == 0) return;
    std::byte* to = take(n_bytes);
    if (counts()) return;
    made_ = HugeBuffer(n_bytes);
    const PanelMatrix made = place_mla_keys(args_.mla, w.kv_up, made_.data());
    for_heads([&](uint32_t head) { make_mla_key_head(args_.mla, w.kv_up, head, made); });
    upload_->copy(to, {made_.data(), n_bytes});
    w.prefill_keys = place_mla_keys(args_.mla, w.kv_up, to);
    tell(n_bytes);
  }

  template <class Body>
  void for_heads(const Body& body) {
    workers_.parallel_for(args_.mla.n_heads, 1, [&](uint64_t begin, uint64_t end) {
      for (uint64_t h = begin; h < end; ++h) body(static_cast<uint32_t>(h));
    });
  }

  void tell(uint64_t n_more) {
    step_.n_done += n_more;
    if (args_.progress) args_.progress(step_);
  }

  std::byte* at_;
  const DeviceWeightsArgs& args_;
  Workers& workers_;
  std::unique_ptr<Upload> upload_;  // null: counts
  HugeBuffer made_;
  LoadStep step_{LoadActivity::upload, 0, 0};
  uint64_t n_bytes_ = 0;
};

}  // namespace

DeviceWeights::DeviceWeights(Device& device, ModelWeights& weights, const DeviceWeightsArgs& args,
                             Workers& workers) {
  const Parts parts = parts_of(weights, args.placement, args.processor);
  Loader counter(device, nullptr, args, workers);
  counter.load(parts, 0);
  memory_ = device.allocate(counter.n_bytes(), "its weights");
  Loader(device, memory_.data(), args, workers).load(parts, counter.n_bytes());
}

void split_experts(ModelWeights& weights, const ModelPlacement& placement) {
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const std::vector<PlacedExperts>& split = placement.layers[i].split;
    if (split.empty()) continue;
    const ExpertPart all = std::move(weights.layers[i].experts.front());
    weights.layers[i].experts.clear();
    for (const PlacedExperts& p : split) {
      weights.layers[i].experts.push_back({p.first, p.n, all.w.range(p.first, p.n)});
    }
  }
}

std::unordered_set<const Weight*> weights_on_devices(const ModelWeights& weights,
                                                     const ModelPlacement& placement) {
  std::unordered_set<const Weight*> found;
  for (uint32_t p = 1; p < placement.n_processors; ++p) {
    // Only pointers are taken.
    const Parts parts = parts_of(const_cast<ModelWeights&>(weights), placement, p);
    found.insert(parts.matrices.begin(), parts.matrices.end());
  }
  return found;
}

}  // namespace hybrid
