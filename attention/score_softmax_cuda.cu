#include "attention/score_softmax_cuda.h"

#include "attention/score_softmax_cuda.cuh"

namespace hybrid {

using namespace cuda;

CudaStatus score_softmax_cuda(const ScoreSoftmaxArgs& args, CudaStream stream) {
  return launch(score_softmax_kernel, Grid(args.n_tokens, args.n_heads), Grid(kSoftmaxThreads), 0,
                stream, args);
}

}  // namespace hybrid
