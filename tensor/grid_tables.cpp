#include "tensor/grid_tables.h"

#include <algorithm>

#include "tensor/codebooks.h"

namespace hybrid {

void fill_grid_tables(GridTables& tables) {
  std::copy(kIq2XxsGrid.begin(), kIq2XxsGrid.end(), tables.iq2_xxs);
  std::copy(kIq2XsGrid.begin(), kIq2XsGrid.end(), tables.iq2_xs);
  std::copy(kIq2SGrid.begin(), kIq2SGrid.end(), tables.iq2_s);
  std::copy(kIq1Grid.begin(), kIq1Grid.end(), tables.iq1);
  std::copy(kIq3XxsGrid.begin(), kIq3XxsGrid.end(), tables.iq3_xxs);
  std::copy(kIq3SGrid.begin(), kIq3SGrid.end(), tables.iq3_s);
}

}  // namespace hybrid
