#pragma once
// The headers of models of real size, without their data: what plans read.

#include <string>

#include "tensor/dtype.h"

namespace hybrid::test {

struct RealHeaderOptions {
  DType type = DType::q4_k;       // of all matrices but those below and the router
  DType down_type = DType::q4_k;  // of the routed experts' down-projections
  DType output_type = DType::q6_k;
};

// The bytes of a GGUF that ends behind its headers.
std::string r1_headers(const RealHeaderOptions& options = {});    // DeepSeek R1, 671 billion
std::string lite_headers(const RealHeaderOptions& options = {});  // DeepSeek V2 Lite, 16 billion

}  // namespace hybrid::test
