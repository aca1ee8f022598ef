#include "tensor/gguf_file.h"

#include <numeric>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "tensor/gguf_split.h"
#include "tensor/mapped_file.h"

namespace hybrid {
namespace {

struct OpenedPart {
  std::filesystem::path path;
  MappedFile file;
  GgufHeader header;
};

OpenedPart open_part(const std::filesystem::path& path, const GgufFile::Options& options) {
  OpenedPart part{path, MappedFile::open(path), {}};
  part.header = read_gguf_header(part.file.bytes(), {printable(path.string(), 4096),
                                                     part.file.n_bytes(), options.data_required});
  return part;
}

void check_is_part(const OpenedPart& opened, uint32_t part, uint32_t n_parts) {
  const SplitKeys keys = read_split_keys(opened.header.metadata);
  if (keys.part == part && keys.n_parts == n_parts) return;
  fail("{}: expected part {} of {}, as the name says, found keys that say part {} of {}",
       opened.header.metadata.source(), part + 1, n_parts, keys.part + 1, keys.n_parts);
}

/// All parts of the model in order. The one that was asked for is opened first: its keys say how
/// many there are.
std::vector<OpenedPart> open_parts(const std::filesystem::path& path,
                                   const GgufFile::Options& options) {
  OpenedPart first = open_part(path, options);
  const uint32_t asked_for = read_split_keys(first.header.metadata).part;
  const std::vector<std::filesystem::path> paths = list_parts(path, first.header.metadata);
  const auto n_parts = static_cast<uint32_t>(paths.size());
  std::vector<OpenedPart> parts;
  parts.reserve(n_parts);
  for (uint32_t i = 0; i < n_parts; ++i) {
    parts.push_back(i == asked_for ? std::move(first) : open_part(paths[i], options));
    check_is_part(parts.back(), i, n_parts);
  }
  return parts;
}

}  // namespace

struct GgufFile::State {
  GgufMetadata metadata;
  uint32_t version = 0;
  std::vector<GgufTensor> tensors;
  std::unordered_map<std::string_view, size_t> index;  // the names live in `tensors`
  std::vector<Part> parts;
  std::vector<MappedFile> files;

  void add_tensors(const OpenedPart& opened, uint32_t part) {
    for (const GgufTensorInfo& info : opened.header.tensors) tensors.push_back({info, part});
  }

  void build_index() {
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::string& name = tensors[i].info.name;
      const auto [at, is_new] = index.emplace(name, i);
      if (is_new) continue;
      fail("{}: tensor '{}': expected it in one part, found it in {} too",
           printable(parts[tensors[i].part].path.string(), 4096), printable(name),
           printable(parts[tensors[at->second].part].path.string(), 4096));
    }
  }
};

GgufFile GgufFile::open(const std::filesystem::path& path, const Options& options) {
  std::vector<OpenedPart> opened = open_parts(path, options);
  auto state = std::make_unique<State>();
  state->version = opened[0].header.version;
  for (size_t i = 0; i < opened.size(); ++i) {
    state->parts.push_back({opened[i].path, opened[i].file.n_bytes(), opened[i].file.mtime_ns()});
    state->add_tensors(opened[i], static_cast<uint32_t>(i));
  }
  state->build_index();
  for (OpenedPart& part : opened) {
    if (opened.size() > 1) {
      check_split_tensor_count(part.header.metadata, state->tensors.size());
    }
    state->files.push_back(std::move(part.file));
  }
  state->metadata = std::move(opened[0].header.metadata);
  return GgufFile(std::move(state));
}

GgufFile::GgufFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

const GgufMetadata& GgufFile::metadata() const& { return state_->metadata; }
uint32_t GgufFile::version() const { return state_->version; }
const std::vector<GgufTensor>& GgufFile::tensors() const& { return state_->tensors; }
const std::vector<GgufFile::Part>& GgufFile::parts() const { return state_->parts; }

std::span<const std::byte> GgufFile::part_bytes(size_t part) const {
  return state_->files.at(part).bytes();
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto at = state_->index.find(name);
  return at == state_->index.end() ? nullptr : &state_->tensors[at->second];
}

TensorView GgufFile::view(const GgufTensor& tensor) const {
  HYBRID_CHECK(tensor.part < state_->files.size());
  const GgufTensorInfo& info = tensor.info;
  const std::span<const std::byte> bytes = state_->files[tensor.part].bytes();
  if (info.offset > bytes.size() || info.n_bytes > bytes.size() - info.offset) {
    fail("{}: tensor '{}': expected its data at bytes {} to {}, found a file of {} bytes",
         printable(state_->parts[tensor.part].path.string(), 4096), printable(info.name),
         info.offset, info.offset + info.n_bytes, bytes.size());
  }
  return {info.type, info.ne, bytes.subspan(info.offset, info.n_bytes)};
}

TensorView GgufFile::describe(const GgufTensor& tensor) {
  const std::byte* nowhere = nullptr;
  return {tensor.info.type, tensor.info.ne, {nowhere, tensor.info.n_bytes}};
}

uint64_t GgufFile::total_bytes() const {
  return std::accumulate(state_->parts.begin(), state_->parts.end(), uint64_t{0},
                         [](uint64_t sum, const Part& part) { return sum + part.n_bytes; });
}

}  // namespace hybrid
