// What is read of the variables of sd_listen_fds(3).

import Syscalls
import SystemPackage
import Testing

@Suite struct ServiceManagerTests {
  @Test func socketsAreCountedFromThree() throws {
    #expect(
      try InheritedSocket.parse(count: "3", names: "nbd:admin") == [
        InheritedSocket(descriptor: 3, name: "nbd"), InheritedSocket(descriptor: 4, name: "admin"),
        InheritedSocket(descriptor: 5, name: nil),
      ])
    #expect(try InheritedSocket.parse(count: "0", names: nil) == [])
  }

  @Test(arguments: ["", "-1", "x", "1025", "99999999999999999999"])
  func aNumberThatIsNoneIsRefused(count: String) {
    #expect(throws: Errno.invalidArgument) { try InheritedSocket.parse(count: count, names: nil) }
  }

  /// A notification never waits and never ends the process.
  @Test func nobodyListening() {
    #expect(throws: Errno.self) { try ServiceManager(address: "/nonexistent/notify").tell(["READY=1"]) }
    #expect(throws: Errno.self) { try ServiceManager(address: "@holdfast-nobody").tell(["READY=1"]) }
    #expect(throws: Errno.invalidArgument) {
      try ServiceManager(address: String(repeating: "x", count: 200)).tell(["READY=1"])
    }
  }
}
