#pragma once
// Owners of what PCRE2 allocates; for files that link it.

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <string>

namespace hybrid {

struct FreePcre {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using PcreCode = std::unique_ptr<pcre2_code, FreePcre>;
using PcreMatchData = std::unique_ptr<pcre2_match_data, FreePcre>;
using PcreMatchContext = std::unique_ptr<pcre2_match_context, FreePcre>;

inline std::string pcre_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace hybrid
