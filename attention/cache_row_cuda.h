#pragma once
// CacheRow (cache_row.h) on a device: rows of the cache of latents, f16 or q8_0.

#include "attention/cache_row.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// rows: [n_tokens] of dim() floats; row t goes to position positions[t] of `cache` (rows of
/// n_bytes()). The bytes that CacheRow::store() writes. row.n a multiple of 32.
CudaStatus store_cache_rows_cuda(const CacheRow& row, DeviceRows<const float> rows,
                                 const int32_t* positions, uint32_t n_tokens, std::byte* cache,
                                 CudaStream stream);

/// The first n_rows rows as bf16: [n_rows][n] and [n_rows][n_exact].
CudaStatus load_cache_rows_cuda(const CacheRow& row, const std::byte* cache, uint32_t n_rows,
                                bf16_t* latents, bf16_t* exact, CudaStream stream);

}  // namespace hybrid
