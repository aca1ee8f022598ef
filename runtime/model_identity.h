#pragma once
// What tells one model file from another, for files that are made from a model.

#include <cstdint>

#include "tensor/gguf_file.h"

namespace hybrid {

/// Of one part: a hash of all before the first tensor and of 64 samples of what follows. A model
/// that was trained or quantised again under the same name differs everywhere. Reads those bytes
/// and gives their pages back.
uint64_t part_hash(const GgufFile& model, size_t part);

/// Of the sizes and part_hash() of all parts. Neither names nor times are in it: a copy is the same
/// model.
uint64_t model_hash(const GgufFile& model);

}  // namespace hybrid
