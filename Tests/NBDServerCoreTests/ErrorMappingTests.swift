// What a client may be told about an errno.

import NBDProtocol
import NBDServerCore
import SystemPackage
import Testing

@Suite struct ErrorMappingTests {
  @Test(arguments: [
    (Errno.notPermitted, NBDError.permission), (.permissionDenied, .permission), (.readOnlyFileSystem, .permission),
    (.noSpace, .noSpace), (.diskQuotaExceeded, .noSpace), (.fileTooLarge, .noSpace), (.notSupported, .notSupported),
    (.invalidArgument, .invalid), (.ioError, .io), (.noMemory, .io), (.interrupted, .io), (.badFileDescriptor, .io),
  ])
  func errnoBecomesAnErrorOfTheProtocol(errno: Errno, error: NBDError) {
    #expect(NBDError(errno) == error)
  }

  /// EOVERFLOW, ENOMEM and ESHUTDOWN have meanings that no backend can mean.
  @Test func noErrnoBecomesAnErrorOfAnotherMeaning() {
    for number: CInt in 1...200 {
      switch NBDError(Errno(rawValue: number)) {
      case .permission, .io, .invalid, .noSpace, .notSupported: continue
      case .noMemory, .overflow, .shutdown: Issue.record("errno \(number)")
      }
    }
  }
}
