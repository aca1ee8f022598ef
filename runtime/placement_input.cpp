#include "runtime/placement_input.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "runtime/tensor_parts.h"

namespace hybrid {
namespace {

UnitKind kind_of(TensorRole role, bool is_of_layer) {
  switch (role) {
    case TensorRole::embedding:
      return UnitKind::embedding;
    case TensorRole::output:
      return UnitKind::output;
    case TensorRole::dense:
      return UnitKind::dense;
    case TensorRole::shared:
      return UnitKind::shared;
    case TensorRole::routed_gate:
    case TensorRole::routed_up:
    case TensorRole::routed_down:
      return UnitKind::routed;
    default:  // norms and the router are small, and computed where attention is
      return is_of_layer ? UnitKind::attention : UnitKind::output;
  }
}

class Builder {
 public:
  Builder(const ModelView& view, const RunPlan& plan, std::span<const PlacementRule> rules,
          DeviceLayout layout)
      : view_(view), plan_(plan), rules_(rules), layout_(layout), matcher_(rules) {
    out_.n_matched.resize(rules.size());
    out_.n_decided.resize(rules.size());
  }

  PlacementInput build() {
    const ModelConfig& config = view_.config;
    out_.inventory = make_inventory(view_.file, config.moe.n_used);
    out_.model.n_layers = config.n_layers;
    out_.model.n_used = config.moe.n_used;
    out_.model.hidden_bytes = config.n_embd * sizeof(float);
    const AttentionOptions& attention = plan_.settings.execution.attention;
    out_.model.attention = {config.mla, attention.mla, attention.key_type};
    for (uint32_t i = 0; i < out_.inventory.size(); ++i) {
      if (plan_.tensors[i].layout != TensorLayout::unused) add_tensor(i);
    }
    return std::move(out_);
  }

 private:
  void add_tensor(uint32_t index) {
    const InventoryTensor& t = out_.inventory[index];
    const std::string& name = t.tensor->info.name;
    const std::vector<uint32_t> matches = matcher_.matches(name);
    for (const uint32_t rule : matches) ++out_.n_matched[rule];
    std::vector<bool> decided(rules_.size());
    const std::vector<TensorPart> parts = parts_of(t, rules_, matches);
    for (const TensorPart& part : parts) {
      if (part.rule) decided[*part.rule] = true;
      add_piece(index, part, parts.size() > 1);
    }
    for (size_t i = 0; i < decided.size(); ++i) out_.n_decided[i] += decided[i] ? 1 : 0;
  }

  void add_piece(uint32_t index, const TensorPart& part, bool is_part) {
    const InventoryTensor& t = out_.inventory[index];
    const uint64_t n_all = std::max(t.n_experts, 1u);
    const uint64_t n = part.experts.last - part.experts.first + 1;
    PlacementPiece piece;
    piece.tensor = index;
    if (is_part) piece.experts = part.experts;
    piece.unit = unit_of(t);
    out_.cpu_weights.push_back(cpu_weights(index, n, n_all));
    piece.cpu_bytes = out_.cpu_weights.back().taken();
    const uint64_t file_bytes = t.tensor->info.n_bytes;
    piece.accelerator_bytes = device_bytes(layout_, plan_.tensors[index], n_all) / n_all * n;
    piece.panel_bytes = panel_bytes(index) / n_all * n;
    piece.token_bytes = t.bytes_per_token * n / n_all;
    piece.type = t.tensor->info.type;
    const TensorLayout layout = plan_.tensors[index].layout;
    piece.packed = layout == TensorLayout::panels || piece.type == DType::f32;
    piece.in_attention = plan_.tensors[index].is_up_projection;
    piece.on_disk = part.rule && rules_[*part.rule].device.kind == DeviceKind::disk &&
                    layout == TensorLayout::mapped;
    if (t.role != TensorRole::norm) {
      const double share = static_cast<double>(piece.token_bytes) /
                           static_cast<double>(std::max<uint64_t>(file_bytes, 1));
      const TensorView view = GgufFile::describe(*t.tensor);
      piece.token_flop = 2 * share * static_cast<double>(view.n_elements());
      piece.token_bytes = static_cast<uint64_t>(share * static_cast<double>(panel_bytes(index)));
    }
    if (holds_cache(t)) {
      const uint64_t n_layers = view_.config.n_layers;
      piece.cache_bytes = plan_.sequence.cache_bytes / n_layers;
      piece.cache_row_bytes = piece.cache_bytes / plan_.sequence.n_ctx;
    }
    out_.model.pieces.push_back(piece);
    out_.rule_of.push_back(part.rule);
  }

  /// Of a whole tensor, as kernels read it.
  uint64_t panel_bytes(uint32_t index) const {
    const GgufTensor& tensor = *out_.inventory[index].tensor;
    if (plan_.tensors[index].layout == TensorLayout::floats) return tensor.info.n_bytes;
    return packed_bytes(Weight{GgufFile::describe(tensor)});
  }

  /// The tensor that a layer's cache goes with: the latent's down-projection, one in each layer.
  static bool holds_cache(const InventoryTensor& t) {
    return t.role == TensorRole::attention &&
           t.tensor->info.name.find(".attn_kv_a_mqa.") != std::string::npos;
  }

  /// Of n of the tensor's n_all experts.
  WeightBytes cpu_weights(uint32_t index, uint64_t n, uint64_t n_all) const {
    WeightBytes bytes = plan_.tensors[index].bytes;
    bytes.panels = bytes.panels / n_all * n;
    bytes.mapped = bytes.mapped / n_all * n;
    return bytes;
  }

  uint32_t unit_of(const InventoryTensor& t) {
    const bool is_of_layer = t.layer >= 0;
    const UnitKind kind = kind_of(t.role, is_of_layer);
    const uint32_t layer = is_of_layer                ? static_cast<uint32_t>(t.layer)
                           : kind == UnitKind::output ? view_.config.n_layers
                                                      : 0;
    const auto [at, is_new] = units_.emplace(std::pair(kind, layer), out_.model.units.size());
    if (is_new) out_.model.units.push_back({kind, layer});
    return at->second;
  }

  ModelView view_;
  const RunPlan& plan_;
  std::span<const PlacementRule> rules_;
  DeviceLayout layout_;
  RuleMatcher matcher_;
  std::map<std::pair<UnitKind, uint32_t>, uint32_t> units_;
  PlacementInput out_;
};

}  // namespace

PlacementInput make_placement_input(const ModelView& view, const RunPlan& plan,
                                    std::span<const PlacementRule> rules, DeviceLayout layout) {
  return Builder(view, plan, rules, layout).build();
}

}  // namespace hybrid
