#pragma once
// A GGUF model on disk: one file or all parts of a split one, mapped read-only. Opening touches the
// headers only; sizes are those at that moment (see mapped_file.h on files that shrink afterwards).

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gguf_reader.h"
#include "tensor/tensor_view.h"

namespace hybrid {

/// A tensor and the part that holds it.
struct GgufTensor {
  GgufTensorInfo info;
  uint32_t part = 0;
};

class GgufFile {
 public:
  struct Options {
    bool data_required = true;  // false: the data of the parts may be missing (plan, inspect)
  };

  /// Opens the model that `path` belongs to: any part of a split file opens all of them (name
  /// ...-00002-of-00003.gguf, and the split.* keys, which must agree). Throws Error.
  static GgufFile open(const std::filesystem::path& path, const Options& options);
  static GgufFile open(const std::filesystem::path& path) { return open(path, Options{}); }

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  /// Of the first part; it carries the model's metadata.
  const GgufMetadata& metadata() const&;
  const GgufMetadata& metadata() const&& = delete;  // it would not outlive the statement
  uint32_t version() const;

  /// Of all parts, in order.
  const std::vector<GgufTensor>& tensors() const&;
  const std::vector<GgufTensor>& tensors() const&& = delete;
  const GgufTensor* find(std::string_view name) const;

  /// The tensor's mapped bytes; valid as long as this object. Throws Error where the file does not
  /// have them, which data_required excludes.
  TensorView view(const GgufTensor& tensor) const;

  /// Type, shape and size of the tensor alone, for plans: its bytes must not be read; the file need
  /// not have them.
  static TensorView describe(const GgufTensor& tensor);

  struct Part {
    std::filesystem::path path;
    uint64_t n_bytes = 0;
    int64_t mtime_ns = 0;  // since 1970, when it was opened
  };
  const std::vector<Part>& parts() const;
  std::span<const std::byte> part_bytes(size_t part) const;  // mapped
  uint64_t total_bytes() const;                              // of all parts

 private:
  struct State;
  explicit GgufFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hybrid
