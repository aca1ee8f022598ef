#pragma once
// The decoder of each type, for the table in dequantize.cpp. Contract: DequantizeFn in
// dequantize.h.

#include <cstddef>
#include <cstdint>

namespace hybrid::internal {

#define HYBRID_DECODER(name) void dequantize_##name(const std::byte* src, float* dst, uint64_t n)

// dequantize_legacy.cpp
HYBRID_DECODER(f32);
HYBRID_DECODER(f16);
HYBRID_DECODER(bf16);
HYBRID_DECODER(q4_0);
HYBRID_DECODER(q4_1);
HYBRID_DECODER(q5_0);
HYBRID_DECODER(q5_1);
HYBRID_DECODER(q8_0);

// dequantize_k.cpp
HYBRID_DECODER(q2_k);
HYBRID_DECODER(q3_k);
HYBRID_DECODER(q4_k);
HYBRID_DECODER(q5_k);
HYBRID_DECODER(q6_k);

// dequantize_iq.cpp
HYBRID_DECODER(iq4_nl);
HYBRID_DECODER(iq4_xs);
HYBRID_DECODER(mxfp4);
HYBRID_DECODER(iq2_xxs);
HYBRID_DECODER(iq2_xs);
HYBRID_DECODER(iq2_s);
HYBRID_DECODER(iq3_xxs);
HYBRID_DECODER(iq3_s);
HYBRID_DECODER(iq1_s);
HYBRID_DECODER(iq1_m);

#undef HYBRID_DECODER

}  // namespace hybrid::internal
