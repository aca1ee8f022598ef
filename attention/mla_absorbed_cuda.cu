#include "attention/mla_absorbed_cuda.h"

#include "attention/mla_absorbed_cuda.cuh"

namespace hybrid {

using namespace cuda;

namespace {

template <bool kQ8>
CudaStatus launch_splits(const MlaAbsorbedArgs& args, const MlaAbsorbed& a, CudaStream stream) {
  const Grid grid(args.n_splits, (args.n_heads + kAbsorbedHeads - 1) / kAbsorbedHeads,
                  args.n_tokens);
  return launch(mla_absorbed_kernel<kQ8>, grid, Grid(kAbsorbedThreads), sizeof(AbsorbedShared<kQ8>),
                stream, a);
}

}  // namespace

CudaStatus mla_absorbed_cuda(const MlaAbsorbedArgs& args, CudaStream stream) {
  const bool is_q8 = args.row.type == DType::q8_0;
  if ((!is_q8 && args.row.type != DType::f16) || args.row.n != kLatentDim ||
      args.row.n_exact != kRopeDim) {
    return 1;
  }
  MlaAbsorbed a{};
  a.cache = args.cache;
  a.n_visible = args.n_visible;
  a.n_heads = args.n_heads;
  a.log2_scale = args.kq_scale * 1.44269504f;
  a.q_latent = args.q_latent.data;
  a.q_latent_stride = args.q_latent.stride;
  a.q_rope = args.q_rope.data;
  a.q_rope_stride = args.q_rope.stride;
  a.q_rope_head_stride = args.q_rope_head_stride;
  const uint64_t n = args.n_parts();
  a.parts = {args.scratch, args.scratch + n * kLatentDim, args.scratch + n * (kLatentDim + 1)};
  const CudaStatus status =
      is_q8 ? launch_splits<true>(args, a, stream) : launch_splits<false>(args, a, stream);
  if (status != 0) return status;
  return launch(mla_join_kernel, Grid(args.n_tokens * args.n_heads), Grid(kAbsorbedThreads), 0,
                stream, a.parts, args.n_splits, args.out);
}

}  // namespace hybrid
