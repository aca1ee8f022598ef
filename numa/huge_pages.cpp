#include "numa/huge_pages.h"

#include <sys/prctl.h>

#include <fstream>
#include <iterator>

namespace hybrid {
namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

std::string HugePageState::why_not() const {
  if (can_be_had()) return {};
  if (page_bytes == 0) return "this kernel has no transparent huge pages";
  if (is_off_for_process) {
    return "huge pages are switched off for this process (PR_SET_THP_DISABLE), by what launched it";
  }
  return "huge pages are switched off; as root: echo madvise > "
         "/sys/kernel/mm/transparent_hugepage/enabled";
}

HugePageState read_huge_page_state(const std::filesystem::path& folder) {
  HugePageState state;
  state.mode = chosen_word(text_of(folder / "enabled"));
  state.defrag = chosen_word(text_of(folder / "defrag"));
  state.is_off_for_process = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1;
  std::ifstream size(folder / "hpage_pmd_size");
  if (!(size >> state.page_bytes)) state.page_bytes = 0;
  return state;
}

std::string chosen_word(std::string_view text) {
  const size_t open = text.find('['), close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return {};
  return std::string(text.substr(open + 1, close - open - 1));
}

}  // namespace hybrid
