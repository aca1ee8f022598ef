#include "runtime/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "runtime/bpe.h"
#include "runtime/byte_level.h"
#include "runtime/pre_tokenizer.h"
#include "runtime/special_tokens.h"
#include "runtime/vocabulary.h"

namespace hybrid {
namespace {

// Tokens by which models end their turn, whatever id the file names as its end token.
constexpr std::string_view kEndTexts[] = {
    "<｜end▁of▁sentence｜>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|EOT|>",
    "[EOS]",
    "[EOT]",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "</s>",
};

const GgufMetadata& check_model(const GgufMetadata& metadata) {
  const std::string* model = metadata.find_string("tokenizer.ggml.model");
  if (model == nullptr || *model != "gpt2") {
    fail("{}: expected tokenizer.ggml.model \"gpt2\" (byte-level BPE), found {}", metadata.source(),
         model == nullptr ? std::string("none") : '"' + printable(*model) + '"');
  }
  return metadata;
}

PreTokenizer read_pre_tokenizer(const GgufMetadata& metadata) {
  const std::string* name = metadata.find_string("tokenizer.ggml.pre");
  if (name == nullptr) {
    fail(
        "{}: expected the name of a pre-tokenizer in tokenizer.ggml.pre, found none; convert the "
        "model again with a newer converter",
        metadata.source());
  }
  try {
    return PreTokenizer::by_name(*name);
  } catch (const Error& error) {
    fail("{}: tokenizer.ggml.pre: {}", metadata.source(), error.what());
  }
}

/// What the merges work on. Symbols below the vocabulary's size are its ordinary tokens; further
/// ones stand for strings that merging passes through but that no ordinary token spells.
class Symbols {
 public:
  explicit Symbols(const Vocabulary& vocabulary) : n_tokens_(vocabulary.size()) {
    for (int byte = 0; byte < 256; ++byte) {
      bytes_[byte] = intern(vocabulary, byte_character(static_cast<uint8_t>(byte)));
    }
  }

  int32_t intern(const Vocabulary& vocabulary, std::string_view text) {
    const int32_t id = vocabulary.find_ordinary(text);
    if (id >= 0) return id;
    const auto [it, added] =
        extra_ids_.try_emplace(std::string(text), n_tokens_ + static_cast<int32_t>(extra_.size()));
    if (added) extra_.emplace_back(text);
    return it->second;
  }

  int32_t of_byte(uint8_t byte) const { return bytes_[byte]; }
  bool is_token(int32_t symbol) const { return symbol < n_tokens_; }
  const std::string& extra_text(int32_t symbol) const { return extra_[symbol - n_tokens_]; }

 private:
  int32_t n_tokens_;
  std::array<int32_t, 256> bytes_;
  std::vector<std::string> extra_;
  std::unordered_map<std::string, int32_t> extra_ids_;
};

MergeTable read_merges(const GgufMetadata& metadata, const Vocabulary& vocabulary,
                       Symbols& symbols) {
  const auto* merges = metadata.find_strings("tokenizer.ggml.merges");
  if (merges == nullptr) {
    fail("{}: expected the BPE merges in tokenizer.ggml.merges, found none", metadata.source());
  }
  MergeTable table(merges->size());
  std::string merged;
  for (size_t i = 0; i < merges->size(); ++i) {
    const std::string_view merge = (*merges)[i];
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string_view::npos) {
      fail("{}: tokenizer.ggml.merges[{}] is \"{}\", expected two parts with a space between them",
           metadata.source(), i, printable(merge));
    }
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    merged.assign(left).append(right);
    table.add(symbols.intern(vocabulary, left), symbols.intern(vocabulary, right),
              symbols.intern(vocabulary, merged));
  }
  return table;
}

SpecialTokens collect_special(const Vocabulary& vocabulary, bool with_control) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const TokenKind kind = vocabulary.kind(id);
    const bool control = kind == TokenKind::control || kind == TokenKind::unknown;
    if (kind == TokenKind::user_defined || (with_control && control)) {
      tokens.emplace_back(vocabulary.text(id), id);
    }
  }
  return SpecialTokens(std::move(tokens));
}

std::vector<TokenId> find_end_ids(const Vocabulary& vocabulary) {
  const SpecialIds& special = vocabulary.special_ids();
  std::vector<TokenId> ids;
  for (TokenId id : {special.eos, special.eot, special.eom}) {
    if (id >= 0) ids.push_back(id);
  }
  for (std::string_view text : kEndTexts) {
    const TokenId id = vocabulary.find(text);
    if (id >= 0 && vocabulary.kind(id) == TokenKind::control) ids.push_back(id);
  }
  return ids;
}

bool read_wants_bos(const GgufMetadata& metadata, const Vocabulary& vocabulary, bool by_default) {
  const bool wants = metadata.find_bool("tokenizer.ggml.add_bos_token").value_or(by_default);
  if (wants && vocabulary.special_ids().bos < 0) {
    fail("{}: texts begin with a BOS token here, but there is no tokenizer.ggml.bos_token_id",
         metadata.source());
  }
  return wants;
}

}  // namespace

struct Tokenizer::State {
  explicit State(const GgufMetadata& metadata)
      : vocabulary(check_model(metadata)),
        pre_tokenizer(read_pre_tokenizer(metadata)),
        symbols(vocabulary),
        merges(read_merges(metadata, vocabulary, symbols)),
        user_defined(collect_special(vocabulary, false)),
        all_special(collect_special(vocabulary, true)),
        end_ids(find_end_ids(vocabulary)),
        wants_bos(read_wants_bos(metadata, vocabulary, pre_tokenizer.adds_bos())) {}

  void encode_plain(std::string_view text, BpeMerger& merger, std::vector<TokenId>& out) const;
  void append_symbol(int32_t symbol, std::vector<TokenId>& out) const;
  void append_piece(TokenId id, bool render_special, std::string& out) const;

  Vocabulary vocabulary;
  PreTokenizer pre_tokenizer;
  Symbols symbols;
  MergeTable merges;
  SpecialTokens user_defined, all_special;
  std::vector<TokenId> end_ids;
  bool wants_bos;
};

/// Text without special tokens in it.
void Tokenizer::State::encode_plain(std::string_view text, BpeMerger& merger,
                                    std::vector<TokenId>& out) const {
  std::vector<int32_t> word;
  for (std::string_view piece : pre_tokenizer.split(text)) {
    if (pre_tokenizer.takes_whole_words()) {
      const TokenId whole = vocabulary.find_ordinary(to_byte_level(piece));
      if (whole >= 0) {
        out.push_back(whole);
        continue;
      }
    }
    word.clear();
    for (char byte : piece) word.push_back(symbols.of_byte(static_cast<uint8_t>(byte)));
    merger.merge(merges, word);
    for (int32_t symbol : word) append_symbol(symbol, out);
  }
}

/// A symbol that is no token falls back to the tokens of its bytes.
void Tokenizer::State::append_symbol(int32_t symbol, std::vector<TokenId>& out) const {
  if (symbols.is_token(symbol)) {
    out.push_back(symbol);
    return;
  }
  for (char c : from_byte_level(symbols.extra_text(symbol))) {
    const auto byte = static_cast<uint8_t>(c);
    TokenId id = symbols.of_byte(byte);
    if (!symbols.is_token(id)) id = vocabulary.special_ids().unknown;
    // A file may name its end token as the unknown one; text must not become that.
    if (id < 0 || vocabulary.kind(id) == TokenKind::control) {
      fail("the vocabulary has no token for byte 0x{:02x} and no unknown token to stand for it",
           byte);
    }
    out.push_back(id);
  }
}

void Tokenizer::State::append_piece(TokenId id, bool render_special, std::string& out) const {
  if (id < 0 || id >= vocabulary.size()) {
    fail("token id {} is out of range: the vocabulary has {} tokens", id, vocabulary.size());
  }
  switch (vocabulary.kind(id)) {
    case TokenKind::undefined:
    case TokenKind::normal:
    case TokenKind::byte:
      out += from_byte_level(vocabulary.text(id));
      break;
    case TokenKind::user_defined:
      out += vocabulary.text(id);
      break;
    case TokenKind::control:
    case TokenKind::unknown:
    case TokenKind::unused:
      if (render_special) out += vocabulary.text(id);
      break;
  }
}

Tokenizer::Tokenizer(const GgufMetadata& metadata) : state_(std::make_unique<State>(metadata)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail("expected UTF-8 text, but byte {} (0x{:02x}) is no valid UTF-8", invalid,
         static_cast<uint8_t>(text[invalid]));
  }
  std::vector<TokenId> out;
  if (options.add_bos) {
    if (bos() < 0) fail("the vocabulary has no BOS token to begin with");
    out.push_back(bos());
  }
  BpeMerger merger;
  const SpecialTokens& special = options.parse_special ? state_->all_special : state_->user_defined;
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Found found = special.find(text, at);
    state_->encode_plain(text.substr(at, found.begin - at), merger, out);
    if (found.length > 0) out.push_back(found.id);
    at = found.begin + found.length;
  }
  return out;
}

std::string Tokenizer::piece(TokenId id, bool render_special) const {
  std::string out;
  state_->append_piece(id, render_special, out);
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool render_special) const {
  std::string out;
  for (TokenId id : ids) state_->append_piece(id, render_special, out);
  return out;
}

int32_t Tokenizer::n_vocab() const { return state_->vocabulary.size(); }
TokenId Tokenizer::bos() const { return state_->vocabulary.special_ids().bos; }
TokenId Tokenizer::eos() const { return state_->vocabulary.special_ids().eos; }
bool Tokenizer::wants_bos() const { return state_->wants_bos; }

bool Tokenizer::is_end_of_generation(TokenId id) const {
  return std::count(state_->end_ids.begin(), state_->end_ids.end(), id) > 0;
}

bool Tokenizer::is_control(TokenId id) const {
  return id >= 0 && id < n_vocab() && state_->vocabulary.kind(id) == TokenKind::control;
}

TokenId Tokenizer::find_token(std::string_view text) const { return state_->vocabulary.find(text); }
const std::string& Tokenizer::pre_tokenizer() const { return state_->pre_tokenizer.name(); }

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  const size_t ready = pending_.size() - incomplete_utf8_tail(pending_);
  std::string out;
  for (size_t at = 0; at < ready;) {
    const Utf8Char c = decode_utf8(std::string_view(pending_).substr(at, ready - at));
    append_utf8(out, c.code_point);
    at += c.length;
  }
  pending_.erase(0, ready);
  return out;
}

std::string Utf8Stream::finish() {
  std::string out;
  for (size_t i = 0; i < pending_.size(); ++i) append_utf8(out, U'\ufffd');
  pending_.clear();
  return out;
}

}  // namespace hybrid
