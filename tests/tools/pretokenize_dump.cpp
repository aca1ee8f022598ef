// Prints how texts are split, for comparison with another implementation:
//   pretokenize_dump NAME < texts
// Standard input holds texts, each ended by a NUL byte. For each of them one line is printed: a
// JSON array of its pieces, each piece as the hexadecimal digits of its bytes.

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <iterator>
#include <string>

#include "runtime/pre_tokenizer.h"

namespace {

std::string as_json(const std::vector<std::string_view>& pieces) {
  std::string line = "[";
  for (size_t i = 0; i < pieces.size(); ++i) {
    line += i > 0 ? ",\"" : "\"";
    for (char byte : pieces[i]) line += fmt::format("{:02x}", static_cast<uint8_t>(byte));
    line += '"';
  }
  return line + "]\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: pretokenize_dump NAME < texts, each ended by a NUL byte\n";
    return 2;
  }
  try {
    const auto pre_tokenizer = hybrid::PreTokenizer::by_name(argv[1]);
    for (std::string text; std::getline(std::cin, text, '\0');) {
      std::cout << as_json(pre_tokenizer.split(text));
    }
  } catch (const std::exception& error) {
    std::cerr << "pretokenize_dump: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
