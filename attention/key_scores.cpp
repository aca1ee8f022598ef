#include "attention/key_scores.h"

#include "tensor/panel_f32.h"

namespace hybrid {

void compute_scores(const KeyRange& keys, const float* q, uint32_t n_queries, float* scores,
                    uint64_t stride) {
  const KeyBlock::Shape& s = keys.block.shape();
  const uint64_t panel = keys.offset / kPanelLanes;
  PanelArgs args;
  args.a = q;
  args.a_stride = s.own_dim + s.shared_dim;
  args.b = keys.block.key_panels(keys.head, panel);
  args.b_stride = s.key_stride();
  args.b_is_prepared = true;
  args.c = scores;
  args.c_stride = stride;
  args.n_tokens = n_queries;
  args.n_k = s.own_dim;
  args.n_lanes = n_panels_of(keys.n) * kPanelLanes;
  panel_matmul(args);
  if (s.shared_dim == 0) return;
  args.a += s.own_dim;
  args.b = keys.block.shared_panels(panel);
  args.b_stride = s.shared_stride();
  args.n_k = s.shared_dim;
  args.accumulate = true;
  panel_matmul(args);
}

void sum_values(const KeyRange& keys, const float* weights, uint32_t n_queries, uint64_t stride,
                float* sums) {
  const KeyBlock::Shape& s = keys.block.shape();
  PanelArgs args;
  args.a = weights;
  args.a_stride = stride;
  args.b = keys.block.value_panels(keys.head, keys.offset);
  args.b_stride = s.value_stride();
  args.b_is_prepared = true;
  args.c = sums;
  args.c_stride = s.value_dim;
  args.n_tokens = n_queries;
  args.n_k = keys.n;
  args.n_lanes = s.value_dim;
  panel_matmul(args);
}

}  // namespace hybrid
