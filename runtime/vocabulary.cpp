#include "runtime/vocabulary.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/error.h"

namespace hybrid {
namespace {

bool spelled_like_control(std::string_view text) {
  return (text.starts_with("<|") && text.ends_with("|>")) ||
         (text.starts_with("<｜") && text.ends_with("｜>"));
}

}  // namespace

Vocabulary::Vocabulary(const GgufMetadata& metadata) {
  read_texts(metadata);
  read_special_ids(metadata);
  read_kinds(metadata);
  index_texts();
}

void Vocabulary::read_texts(const GgufMetadata& metadata) {
  const auto* tokens = metadata.find_strings("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->empty()) {
    fail("{}: expected a vocabulary in tokenizer.ggml.tokens, found none", metadata.source());
  }
  size_t bytes = 0;
  for (const std::string& token : *tokens) bytes += token.size();
  if (bytes > std::numeric_limits<uint32_t>::max() ||
      tokens->size() > size_t{std::numeric_limits<int32_t>::max()} / 4) {
    fail("{}: tokenizer.ggml.tokens holds {} tokens of {} bytes together, more than can be handled",
         metadata.source(), tokens->size(), bytes);
  }
  texts_.reserve(bytes);
  begins_.reserve(tokens->size() + 1);
  for (const std::string& token : *tokens) {
    begins_.push_back(static_cast<uint32_t>(texts_.size()));
    texts_ += token;
  }
  begins_.push_back(static_cast<uint32_t>(texts_.size()));
}

void Vocabulary::read_special_ids(const GgufMetadata& metadata) {
  const auto read = [&](const char* role) -> int32_t {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", role);
    const auto id = metadata.find_u32(key);
    if (!id) return -1;
    if (*id >= static_cast<uint32_t>(size())) {
      fail("{}: {} is {}, but the vocabulary has {} tokens", metadata.source(), key, *id, size());
    }
    return static_cast<int32_t>(*id);
  };
  special_ids_ = {read("bos"), read("eos"), read("eot"), read("eom"), read("unknown")};
}

void Vocabulary::read_kinds(const GgufMetadata& metadata) {
  kinds_.assign(size(), TokenKind::normal);
  if (const auto types = metadata.find_ints("tokenizer.ggml.token_type")) {
    if (types->size() != kinds_.size()) {
      fail("{}: tokenizer.ggml.token_type has {} entries, but the vocabulary has {} tokens",
           metadata.source(), types->size(), size());
    }
    for (size_t id = 0; id < kinds_.size(); ++id) {
      const int64_t type = (*types)[id];
      if (type < 0 || type > static_cast<int64_t>(TokenKind::byte)) {
        fail("{}: tokenizer.ggml.token_type[{}] is {}, expected 0 to 6", metadata.source(), id,
             type);
      }
      kinds_[id] = static_cast<TokenKind>(type);
    }
  }
  for (int32_t id = 0; id < size(); ++id) {
    if (kinds_[id] == TokenKind::user_defined && spelled_like_control(text(id))) {
      kinds_[id] = TokenKind::control;
    }
  }
  for (int32_t id : {special_ids_.bos, special_ids_.eos, special_ids_.eot, special_ids_.eom}) {
    if (id >= 0 && spelled_like_control(text(id))) kinds_[id] = TokenKind::control;
  }
}

void Vocabulary::index_texts() {
  slots_.assign(std::bit_ceil(size_t{2} * begins_.size()), -1);
  const size_t mask = slots_.size() - 1;
  for (int32_t id = 0; id < size(); ++id) {
    const std::string_view token = text(id);
    size_t slot = std::hash<std::string_view>{}(token)&mask;
    while (slots_[slot] >= 0 && text(slots_[slot]) != token) slot = (slot + 1) & mask;
    if (slots_[slot] < 0) slots_[slot] = id;
  }
}

int32_t Vocabulary::find(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(token)&mask;
  while (slots_[slot] >= 0 && text(slots_[slot]) != token) slot = (slot + 1) & mask;
  return slots_[slot];
}

int32_t Vocabulary::find_ordinary(std::string_view token) const {
  const int32_t id = find(token);
  if (id < 0) return -1;
  const TokenKind kind = kinds_[id];
  return kind == TokenKind::normal || kind == TokenKind::undefined || kind == TokenKind::byte ? id
                                                                                              : -1;
}

}  // namespace hybrid
