#pragma once
// All decoders, compiled once for each instruction set level by a dequantize_<level>.cpp that does
// nothing but include this. Everything is in unnamed namespaces: two levels' code of one function
// must never be taken for each other by the linker.

#include "tensor/dequantize.h"
#include "tensor/dequantize_iq-inl.h"
#include "tensor/dequantize_k-inl.h"
#include "tensor/dequantize_legacy-inl.h"

namespace hybrid::internal {
namespace {

/// Null for a number that is no DType.
DequantizeFn decoder_of(DType type) {
  // clang-format off
  switch (type) {
    case DType::f32: return dequantize_f32;
    case DType::f16: return dequantize_f16;
    case DType::bf16: return dequantize_bf16;
    case DType::q4_0: return dequantize_q4_0;
    case DType::q4_1: return dequantize_q4_1;
    case DType::q5_0: return dequantize_q5_0;
    case DType::q5_1: return dequantize_q5_1;
    case DType::q8_0: return dequantize_q8_0;
    case DType::q2_k: return dequantize_q2_k;
    case DType::q3_k: return dequantize_q3_k;
    case DType::q4_k: return dequantize_q4_k;
    case DType::q5_k: return dequantize_q5_k;
    case DType::q6_k: return dequantize_q6_k;
    case DType::iq4_nl: return dequantize_iq4_nl;
    case DType::iq4_xs: return dequantize_iq4_xs;
    case DType::mxfp4: return dequantize_mxfp4;
    case DType::iq2_xxs: return dequantize_iq2_xxs;
    case DType::iq2_xs: return dequantize_iq2_xs;
    case DType::iq2_s: return dequantize_iq2_s;
    case DType::iq3_xxs: return dequantize_iq3_xxs;
    case DType::iq3_s: return dequantize_iq3_s;
    case DType::iq1_s: return dequantize_iq1_s;
    case DType::iq1_m: return dequantize_iq1_m;
  }
  // clang-format on
  return nullptr;
}

}  // namespace
}  // namespace hybrid::internal
