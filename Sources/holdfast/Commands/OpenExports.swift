// Opens the images of a plan: one `Image`, and so one lock table, per inode, however many exports show it.

import BlockBackend
import Faults
import HoldfastServer
import Logging
import SparseFile

/// What a plan's exports became.
struct OpenedExports {
  /// In the order of the plan.
  var exports: [Export]
  /// Beside each export, the file it shows.
  var files: [ImageFile]
}

func openExports(_ plan: ServePlan, lanes: Lanes, logger: Logger) throws(CommandFailure) -> OpenedExports {
  var opened: [String: (export: Export, file: ImageFile)] = [:]
  var shared: [ImageIdentity: (image: Image, file: ImageFile, first: ExportPlan)] = [:]
  // Writable ones first: a read-only export of the same inode then uses the writable image.
  for export in plan.exports.filter({ !$0.isReadOnly }) + plan.exports.filter(\.isReadOnly) {
    let file = try openImage(export.path, OpenOptions(export), faults: export.faults, guards: plan.guards)
    for warning in file.warnings { logger.warning("\(warning)", metadata: ["export": "\(export.name)"]) }
    let use = shared[file.identity] ?? (Image(backend: file, lanes: lanes, guards: plan.guards), file, export)
    shared[file.identity] = use
    guard use.first.faults == export.faults else {
      throw CommandFailure(
        .configuration,
        "exports \"\(use.first.name)\" and \"\(export.name)\" show one image, which has one set of faults; write the same "
          + "faults for both")
    }
    for rule in export.faults {
      logger.warning("faults are injected on purpose: \(rule.text)", metadata: ["export": "\(export.name)"])
    }
    let served = Export(
      name: export.name, aliases: export.name == plan.defaultExport ? [""] : [], description: export.description,
      isReadOnly: export.isReadOnly, image: use.image)
    opened[export.name] = (served, use.file)
  }
  let ordered = plan.exports.compactMap { opened[$0.name] }
  return OpenedExports(exports: ordered.map(\.export), files: ordered.map(\.file))
}
