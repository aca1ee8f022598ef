#include "runtime/special_tokens.h"

#include <algorithm>

#include "base/utf8.h"

namespace hybrid {
namespace {

using Token = std::pair<std::string, int32_t>;

/// The byte at `depth`, and -1 past the end, so that a text sorts before its continuations.
int byte_at(const Token& token, size_t depth) {
  return depth < token.first.size() ? static_cast<uint8_t>(token.first[depth]) : -1;
}

}  // namespace

SpecialTokens::SpecialTokens(std::vector<Token> tokens) {
  const auto unusable = [](const Token& t) {
    return t.first.empty() || find_invalid_utf8(t.first) != std::string::npos;
  };
  std::erase_if(tokens, unusable);
  const auto by_text = [](const Token& a, const Token& b) { return a.first < b.first; };
  const auto same_text = [](const Token& a, const Token& b) { return a.first == b.first; };
  std::stable_sort(tokens.begin(), tokens.end(), by_text);
  tokens.erase(std::unique(tokens.begin(), tokens.end(), same_text), tokens.end());
  tokens_ = std::move(tokens);
  for (const Token& token : tokens_) {
    if (first_bytes_.empty() || first_bytes_.back() != token.first[0]) {
      first_bytes_ += token.first[0];
    }
  }
}

SpecialTokens::Found SpecialTokens::longest_at(std::string_view text, size_t at) const {
  // Narrows the sorted range to the tokens that share what has been read so far.
  auto low = tokens_.begin(), high = tokens_.end();
  Found found{at, 0, -1};
  for (size_t depth = 0; at + depth < text.size(); ++depth) {
    const int byte = static_cast<uint8_t>(text[at + depth]);
    low = std::partition_point(low, high, [&](const Token& t) { return byte_at(t, depth) < byte; });
    high =
        std::partition_point(low, high, [&](const Token& t) { return byte_at(t, depth) == byte; });
    if (low == high) break;
    if (low->first.size() == depth + 1) found = {at, depth + 1, low->second};
  }
  return found;
}

SpecialTokens::Found SpecialTokens::find(std::string_view text, size_t from) const {
  while ((from = text.find_first_of(first_bytes_, from)) != std::string_view::npos) {
    const Found found = longest_at(text, from);
    if (found.length > 0) return found;
    ++from;
  }
  return {text.size(), 0, -1};
}

}  // namespace hybrid
