#include "placement/json_file.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace hybrid {

using nlohmann::json;

namespace {

/// What the parser says, and what that means to a person.
constexpr std::pair<std::string_view, std::string_view> kPlainWords[] = {
    {"; expected string literal", "; expected a key in double quotes"},
    {"; expected '[', '{', or a literal", "; expected a value"},
    {"; expected '}'", "; expected ',' or '}'"},
    {"; expected ']'", "; expected ',' or ']'"},
    {"forbidden character after backslash",
     "forbidden character after backslash (which itself is written \\\\)"},
};

/// The parser's reason without what it says around it: "... - REASON; last read: '...'; expected
/// X". What it has read begins at some token before, and the place is told by us.
std::string reason_of(const json::exception& error) {
  std::string reason = error.what();
  if (const size_t dash = reason.find(" - "); dash != std::string::npos) reason.erase(0, dash + 3);
  if (const size_t read = reason.find("; last read: "); read != std::string::npos) {
    const size_t expected = reason.rfind("'; expected ");
    const std::string rest = expected == std::string::npos ? "" : reason.substr(expected + 1);
    reason = reason.substr(0, read) + rest;
  }
  for (const auto& [said, plain] : kPlainWords) {
    if (const size_t at = reason.find(said); at != std::string::npos) {
      reason.replace(at, said.size(), plain);
      break;
    }
  }
  return printable(reason, 160);
}

/// ", found WORD" for one that the reason does not show.
std::string found_text(const JsonToken* token) {
  if (token == nullptr || token->text == "{" || token->text == "[") return "";
  return ", found " + printable(token->text.substr(0, token->text.find_first_of("\r\n")));
}

}  // namespace

/// Makes nodes of what the parser meets. Its n-th key or value is the n-th token of the text.
class JsonTreeBuilder {
 public:
  JsonTreeBuilder(const std::string& path, std::string_view text, std::deque<JsonNode>& nodes)
      : path_(path), text_(text), tokens_(json_tokens(text)), nodes_(nodes) {}

  // The names are those that nlohmann's parser calls. They return whether it is to go on.
  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(json::binary_t&) { return false; }  // JSON has none
  bool start_object(size_t) { return open(json::object()); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(json::array()); }
  bool end_array() { return close(); }
  bool key(std::string& name);
  bool parse_error(size_t n_read, const std::string&, const json::exception& error);

 private:
  struct Level {
    JsonNode* node;
    std::map<std::string, TextPlace> keys;
  };

  std::string at(TextPlace place) const {
    return fmt::format("{}: line {}, column {}", path_, place.line, place.column);
  }
  bool add(json value);
  bool open(json value);
  bool close() {
    levels_.pop_back();
    return true;
  }

  const std::string& path_;
  std::string_view text_;
  std::vector<JsonToken> tokens_;
  size_t n_met_ = 0;
  std::deque<JsonNode>& nodes_;
  std::vector<Level> levels_;
  std::string key_;
  TextPlace key_place_;
};

bool JsonTreeBuilder::add(json value) {
  HYBRID_CHECK(n_met_ < tokens_.size());
  JsonNode& node = nodes_.emplace_back();
  node.path_ = &path_;
  node.token_ = tokens_[n_met_++];
  node.value_ = std::make_shared<const json>(std::move(value));
  if (levels_.empty()) return true;
  JsonNode& parent = *levels_.back().node;
  node.parent_ = &parent;
  node.index_ = parent.items_.size();
  node.key_ = std::move(key_);
  node.key_place_ = key_place_;
  key_.clear();
  parent.items_.push_back(&node);
  return true;
}

bool JsonTreeBuilder::open(json value) {
  add(std::move(value));
  if (levels_.size() == JsonFile::kMaxDepth) {
    fail("{}: expected at most {} arrays and objects in one another, found more",
         at(nodes_.back().token_.place), JsonFile::kMaxDepth);
  }
  levels_.push_back({&nodes_.back(), {}});
  return true;
}

bool JsonTreeBuilder::key(std::string& name) {
  HYBRID_CHECK(n_met_ < tokens_.size());
  key_place_ = tokens_[n_met_++].place;
  const auto [first, is_new] = levels_.back().keys.emplace(name, key_place_);
  if (!is_new) {
    const std::string before = levels_.back().node->name();
    fail("{}: key \"{}\" stands twice, first in line {}; leave one out", at(key_place_),
         printable(before.empty() ? name : before + "." + name), first->second.line);
  }
  key_ = std::move(name);
  return true;
}

bool JsonTreeBuilder::parse_error(size_t n_read, const std::string&, const json::exception& error) {
  // The parser tells how far it has read; what is wrong begins where its token does.
  size_t offset = n_read > 0 ? n_read - 1 : 0;
  const JsonToken* token = n_met_ < tokens_.size() ? &tokens_[n_met_] : nullptr;
  if (token != nullptr && token->offset > offset) token = nullptr;
  if (token != nullptr) offset = token->offset;
  const std::string place = at(place_of(text_, offset));
  const std::string found = found_text(token);
  if (dynamic_cast<const json::out_of_range*>(&error) != nullptr) {
    fail("{}: expected a number of at most 1.8e308{}", place, found);
  }
  fail("{}: not valid JSON: {}{}", place, reason_of(error), found);
}

JsonFile::JsonFile(const std::string& path, std::string_view what)
    : path_(printable(path)), text_(read_file(path, what, kMaxBytes)) {
  if (text_.find_first_not_of(" \t\r\n") == std::string::npos) {
    fail("{}: {} is empty; the least that it can be is {{}}", path_, what);
  }
  // The parser would take this byte for the end and what follows for nothing.
  if (const size_t zero = text_.find('\0'); zero != std::string::npos) {
    const TextPlace place = place_of(text_, zero);
    fail("{}: line {}, column {}: expected JSON text in UTF-8, found a zero byte", path_,
         place.line, place.column);
  }
  JsonTreeBuilder builder(path_, text_, nodes_);
  constexpr bool kToTheEnd = true, kComments = true;
  const bool is_complete =
      json::sax_parse(text_, &builder, json::input_format_t::json, kToTheEnd, kComments);
  HYBRID_CHECK(is_complete && !nodes_.empty());
}

}  // namespace hybrid
