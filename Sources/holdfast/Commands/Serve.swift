// Carries a plan out.

import Logging
import SparseFile

func serve(_ plan: ServePlan, logger: Logger) throws(CommandFailure) {
  var images: [ImageFile] = []
  for export in plan.exports {
    let image = try openImage(export.path, OpenOptions(export))
    for warning in image.warnings { logger.warning("\(warning)", metadata: ["export": "\(export.name)"]) }
    images.append(image)
  }
  let rows = zip(plan.exports, images).map {
    StartupReport.Row(name: $0.name, sizeBytes: $1.geometry.sizeBytes, isReadOnly: $0.isReadOnly)
  }
  try writeToStandardOutput(StartupReport(rows: rows, listeners: plan.listeners).text)
}
