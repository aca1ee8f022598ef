#include "runtime/pre_tokenizer.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "base/pcre2_handles.h"
#include "base/text.h"
#include "base/utf8.h"
#include "runtime/pre_tokenizer_patterns.h"

namespace hybrid {
namespace {

struct Pattern {
  PcreCode code;
  bool has_jit = false;
};

/// The rewriting that PreTokenizerRules describes.
std::string to_pcre(std::string_view pattern) {
  static constexpr std::pair<std::string_view, std::string_view> kRewrites[] = {
      {R"(\s)", R"(\p{WSpace})"}, {R"(\S)", R"(\P{WSpace})"}, {R"(\p{Han})", R"(\p{sc:Han})"}};
  std::string out;
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view rest = pattern.substr(at);
    const auto* rewrite = std::find_if(std::begin(kRewrites), std::end(kRewrites),
                                       [&](const auto& r) { return rest.starts_with(r.first); });
    if (rewrite != std::end(kRewrites)) {
      out += rewrite->second;
      at += rewrite->first.size();
    } else {
      const size_t length = rest[0] == '\\' ? 2 : 1;  // an escaped backslash begins no escape
      out += rest.substr(0, length);
      at += length;
    }
  }
  return out;
}

Pattern compile(std::string_view source) {
  const std::string pattern = to_pcre(source);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Pattern out;
  out.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                               PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &offset,
                               nullptr));
  if (!out.code) {
    fail(
        "this PCRE2 does not accept the splitting pattern \"{}\": {} at {}; PCRE2 10.40 or newer "
        "built with Unicode support is expected",
        printable(pattern), pcre_message(error), offset);
  }
  // Where memory may not be made executable the interpreter does the same work, slower.
  out.has_jit = pcre2_jit_compile(out.code.get(), PCRE2_JIT_COMPLETE) == 0;
  return out;
}

/// Finds matches of one pattern after another in pieces of one text.
class Matcher {
 public:
  explicit Matcher(size_t text_bytes)
      : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
    HYBRID_CHECK(data_ && context_);
    // A pattern looks at each character a bounded number of times, so this is out of reach unless a
    // pattern is wrong; then an error is better than a hang.
    const uint64_t limit = 10'000'000 + uint64_t{64} * text_bytes;
    pcre2_set_match_limit(context_.get(),
                          static_cast<uint32_t>(std::min(limit, uint64_t{UINT32_MAX})));
  }

  /// The first match at or after `from`, as [begin, end). False where there is none.
  bool find(const Pattern& pattern, std::string_view piece, size_t from, size_t& begin,
            size_t& end) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
    int result = PCRE2_ERROR_JIT_STACKLIMIT;
    if (pattern.has_jit) {
      result = pcre2_jit_match(pattern.code.get(), subject, piece.size(), from, PCRE2_NO_UTF_CHECK,
                               data_.get(), context_.get());
    }
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = pcre2_match(pattern.code.get(), subject, piece.size(), from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data_.get(), context_.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) fail("the text cannot be split into words: {}", pcre_message(result));
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
    begin = ends[0];
    end = ends[1];
    HYBRID_CHECK(begin < end && end <= piece.size());
    return true;
  }

 private:
  PcreMatchData data_;
  PcreMatchContext context_;
};

void split_piece(Matcher& matcher, const Pattern& pattern, std::string_view piece,
                 std::vector<std::string_view>& out) {
  size_t done = 0, begin = 0, end = 0;
  while (done < piece.size() && matcher.find(pattern, piece, done, begin, end)) {
    if (begin > done) out.push_back(piece.substr(done, begin - done));
    out.push_back(piece.substr(begin, end - begin));
    done = end;
  }
  if (done < piece.size()) out.push_back(piece.substr(done));
}

const PreTokenizerRules* find_rules(std::string_view name) {
  for (const PreTokenizerRules& rules : pre_tokenizer_rules()) {
    if (rules.name == name || std::count(rules.aliases.begin(), rules.aliases.end(), name) > 0) {
      return &rules;
    }
  }
  return nullptr;
}

std::string known_names() {
  std::vector<std::string> names;
  for (const PreTokenizerRules& rules : pre_tokenizer_rules()) {
    names.emplace_back(rules.name);
    names.insert(names.end(), rules.aliases.begin(), rules.aliases.end());
  }
  return join(names, ", ");
}

}  // namespace

struct PreTokenizer::State {
  std::string name;
  const PreTokenizerRules* rules;
  std::vector<Pattern> patterns;
};

PreTokenizer::PreTokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

PreTokenizer PreTokenizer::by_name(std::string_view name) {
  const PreTokenizerRules* rules = find_rules(name);
  if (rules == nullptr) {
    fail("unknown pre-tokenizer \"{}\"; the known ones are {}", printable(name), known_names());
  }
  auto state = std::make_unique<State>();
  state->name = name;
  state->rules = rules;
  for (std::string_view pattern : rules->patterns) state->patterns.push_back(compile(pattern));
  return PreTokenizer(std::move(state));
}

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  // The matcher is told not to check; on ill-formed text it could read past the end.
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail("expected UTF-8 text, but byte {} (0x{:02x}) is no valid UTF-8", invalid,
         static_cast<uint8_t>(text[invalid]));
  }
  std::vector<std::string_view> pieces, next;
  if (!text.empty()) pieces.push_back(text);
  Matcher matcher(text.size());
  for (const Pattern& pattern : state_->patterns) {
    next.clear();
    for (std::string_view piece : pieces) split_piece(matcher, pattern, piece, next);
    pieces.swap(next);
  }
  return pieces;
}

const std::string& PreTokenizer::name() const { return state_->name; }
bool PreTokenizer::takes_whole_words() const { return state_->rules->takes_whole_words; }
bool PreTokenizer::adds_bos() const { return state_->rules->adds_bos; }

}  // namespace hybrid
