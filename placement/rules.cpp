#include "placement/rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/error.h"
#include "base/pcre2_handles.h"

namespace hybrid {
namespace {

/// Steps that a match may take: names are short, so more is an expression that never ends.
constexpr uint32_t kMatchLimit = 1 << 20;

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == ':'; }

/// The length of `=WORD` at the start of text where a rule may end behind it, else 0.
size_t rule_end(std::string_view text) {
  size_t n = 1;
  while (n < text.size() && is_word(text[n])) ++n;
  const bool ends = n == text.size() || text[n] == ',' || text[n] == ';';
  return n > 1 && ends ? n : 0;
}

/// Where the first rule of text ends: at its `=`. A word that is no device ends it only where no
/// device follows.
size_t find_rule_end(std::string_view text) {
  size_t unknown = std::string_view::npos;
  for (size_t i = text.find('='); i != std::string_view::npos; i = text.find('=', i + 1)) {
    const size_t n = rule_end(text.substr(i));
    if (n == 0) continue;
    if (parse_device(text.substr(i + 1, n - 1))) return i;
    if (unknown == std::string_view::npos) unknown = i;
  }
  return unknown;
}

}  // namespace

std::optional<ExpertRange> ExpertRange::parse(std::string_view text) {
  ExpertRange range;
  const char* end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, range.first);
  if (error != std::errc()) return {};
  range.last = range.first;
  if (at != end && *at == '-') {
    const auto tail = std::from_chars(at + 1, end, range.last);
    if (tail.ec != std::errc()) return {};
    at = tail.ptr;
  }
  if (at != end || range.last < range.first) return {};
  return range;
}

std::string ExpertRange::text() const {
  return first == last ? std::to_string(first) : fmt::format("{}-{}", first, last);
}

std::string PlacementRule::text() const {
  return fmt::format("{}={}{}", printable(pattern), text_of(device),
                     experts ? " experts " + experts->text() : "");
}

std::vector<PlacementRule> parse_rules(std::string_view text, std::string_view origin) {
  std::vector<PlacementRule> rules;
  for (std::string_view rest = text; !rest.empty() || rules.empty();) {
    const size_t at = find_rule_end(rest);
    if (at == std::string_view::npos || at == 0) {
      fail("{}: expected a rule RE=DEVICE, as in \"\\.ffn_.*_exps\\.=CPU\", found '{}'", origin,
           printable(rest));
    }
    const size_t n = rule_end(rest.substr(at));
    const std::string_view word = rest.substr(at + 1, n - 1);
    const auto device = parse_device(word);
    if (!device) fail("{}: {}", origin, unknown_device_text(word));
    rules.push_back({.pattern = std::string(rest.substr(0, at)),
                     .device = *device,
                     .origin = std::string(origin)});
    rest.remove_prefix(std::min(at + n + 1, rest.size()));  // with the separator
  }
  const RuleMatcher check(rules);
  return rules;
}

struct RuleMatcher::Compiled {
  std::string name;
  PcreCode code;
  PcreMatchData data;
  PcreMatchContext context;

  bool matches(std::string_view text) const {
    const int result = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                   text.size(), 0, 0, data.get(), context.get());
    if (result >= 0) return true;
    if (result == PCRE2_ERROR_NOMATCH) return false;
    fail("{}: on the name {}: {}", name, printable(text), pcre_message(result));
  }
};

RuleMatcher::RuleMatcher(std::span<const PlacementRule> rules) {
  for (const PlacementRule& rule : rules) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    Compiled c{.name = fmt::format("{}: rule {}", rule.origin, rule.text()),
               .code = {},
               .data = {},
               .context = {}};
    c.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rule.pattern.data()),
                               rule.pattern.size(), 0, &error, &offset, nullptr));
    if (!c.code) {
      fail("{}: not a regular expression: {}, at character {}", c.name, pcre_message(error),
           offset + 1);
    }
    c.data.reset(pcre2_match_data_create(1, nullptr));
    c.context.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(c.context.get(), kMatchLimit);
    compiled_.push_back(std::move(c));
  }
}

RuleMatcher::~RuleMatcher() = default;
RuleMatcher::RuleMatcher(RuleMatcher&&) noexcept = default;

std::vector<uint32_t> RuleMatcher::matches(std::string_view tensor_name) const {
  std::vector<uint32_t> found;
  for (uint32_t i = 0; i < compiled_.size(); ++i) {
    if (compiled_[i].matches(tensor_name)) found.push_back(i);
  }
  return found;
}

}  // namespace hybrid
