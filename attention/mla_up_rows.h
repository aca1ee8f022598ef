#pragma once
// The rows of one head of the up-projection, decoded from the file's own blocks, whichever layout
// the file has. Results lie in buffers that each thread keeps, until its next call.

#include <cstdint>

#include "attention/mla_shape.h"

namespace hybrid {

/// What these buffers take at most, in either layout.
uint64_t up_rows_thread_bytes(const MlaShape& shape);

/// W_h, [qk_nope][kv_lora].
const float* nope_rows(const MlaShape& shape, const MlaUpProjection& up, uint32_t head);

/// W_h as panels whose lanes are latent dimensions, [panels of kv_lora][qk_nope][16].
const float* absorb_panels(const MlaShape& shape, const MlaUpProjection& up, uint32_t head);

/// W_h as panels whose lanes are its rows, [panels of qk_nope][kv_lora][16].
const float* nope_row_panels(const MlaShape& shape, const MlaUpProjection& up, uint32_t head);

/// V_h as panels whose lanes are its rows, [panels of v_dim][kv_lora][16].
const float* value_row_panels(const MlaShape& shape, const MlaUpProjection& up, uint32_t head);

}  // namespace hybrid
