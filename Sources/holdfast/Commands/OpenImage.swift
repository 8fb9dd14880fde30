// Opening an image for a command: the backend's error becomes an exit status and a sentence.

import SparseFile
import SystemPackage

func openImage(_ path: String, _ options: OpenOptions) throws(CommandFailure) -> ImageFile {
  do throws(ImageOpenError) {
    return try ImageFile.open(path: FilePath(path), options: options)
  } catch {
    throw CommandFailure(ExitStatus(error.category), error.description)
  }
}

extension OpenOptions {
  init(_ export: ExportPlan) {
    self.init(
      readOnly: export.isReadOnly, create: export.createdSize != nil, sizeBytes: export.createdSize?.bytes)
  }
}

extension ExitStatus {
  init(_ category: ImageOpenError.Category) {
    switch category {
    case .noSuchFile: self = .noInput
    case .permission: self = .noPermission
    case .locked: self = .locked
    case .notAnImage, .tooLarge: self = .badImage
    case .cannotCreate: self = .cannotCreate
    case .io: self = .ioError
    }
  }
}
