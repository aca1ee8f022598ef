#include "base/error.h"
#include "base/text.h"
#include "runtime/commands/command.h"

namespace hybrid::commands {

void tokenize(const Options& options) {
  const bool decoding = options.is_set("decode");
  for (const char* other : {"prompt", "file", "ids", "add-bos", "special"}) {
    if (decoding && options.is_set(other)) {
      fail_usage("--decode prints the text of ids; leave {} out",
                 display_name(*find_option(other)));
    }
  }
  std::vector<TokenId> ids;
  std::string text;
  if (decoding) {
    ids = parse_token_ids(options.get("decode"), "--decode");
  } else {
    text = input_text(options);
  }
  // A vocabulary-only file will do, and so will a split model's first part.
  const GgufFile file = GgufFile::open(options.get("model"), {.data_required = false});
  const Tokenizer tokenizer(file.metadata());
  if (decoding) {
    print(tokenizer.decode(ids, true) + "\n");
    return;
  }
  ids = tokenizer.encode(text, {.add_bos = options.get_toggle("add-bos"),
                                .parse_special = options.get_toggle("special")});
  std::vector<std::string> words;
  for (const TokenId id : ids) {
    words.push_back(options.get_toggle("ids")
                        ? std::to_string(id)
                        : fmt::format("{:8}  '{}'", id, printable(tokenizer.piece(id, true))));
  }
  print(join(words, options.get_toggle("ids") ? " " : "\n"));
  if (!words.empty() || options.get_toggle("ids")) print("\n");
}

}  // namespace hybrid::commands
