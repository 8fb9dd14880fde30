// Errors of the backend as clients see them: one whole reply, the right error, and the connection lives.

import BlockBackend
import Foundation
import HoldfastServer
import NBDClient
import NBDProtocol
import NBDServerCore
import Syscalls
import SystemPackage
import TestBackends
import Testing

@Suite struct ErrorReplyTests {
  private func memory(isLocal: Bool) -> MemoryBackend {
    isLocal ? MemoryBackend(sizeBytes: 8 << 20) : remoteMemory(sizeBytes: 8 << 20)
  }

  /// The data was not all there, so none of it was sent: an error in the middle of a reply cannot be.
  @Test(arguments: [true, false], [true, false])
  func readThatFailsInTheMiddleIsOneErrorReply(structured: Bool, isLocal: Bool) throws {
    let faults = FaultBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(faults)
    let client = try server.client(structured: structured)
    #expect(try client.write(0, bytes(9, 2 << 20)).isSuccess)
    for length in [1 << 20, 4096] {
      let failing = UInt64(length) - 100
      for kind in [BackendCall.Kind.read, .readCached] {
        faults.fail(kind, in: failing..<failing + 1, with: .ioError, at: failing)
      }
      let reply = try client.read(0, UInt32(length))
      #expect(reply.error == NBDErrno.io)
      #expect(reply.data.isEmpty)
      #expect(reply.errorOffset == (structured ? failing : nil))
      faults.heal()
      #expect(try client.read(0, UInt32(length)).data == bytes(9, length))
    }
  }

  @Test(arguments: [true, false]) func failedMutationTellsItsFirstByte(isLocal: Bool) throws {
    let faults = FaultBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(faults)
    let client = try server.client()
    let commands: [(UInt16, BackendCall.Kind)] = [(Cmd.write, .write), (Cmd.trim, .trim), (Cmd.writeZeroes, .zero)]
    for (command, kind) in commands {
      for (errno, expected) in [(Errno.noSpace, NBDErrno.noSpace), (.ioError, NBDErrno.io)] {
        faults.fail(kind, with: errno, at: 5000)
        let payload = command == Cmd.write ? bytes(1, 4096) : nil
        let reply = try client.call(command, offset: 4096, length: 4096, payload: payload)
        #expect(reply.error == expected)
        #expect(reply.errorOffset == 5000)
        #expect(try client.read(4096, 4096).data == bytes(0, 4096))
      }
    }
  }

  /// Only FAST_ZERO may be answered so; what a backend says elsewhere becomes another error.
  @Test(arguments: [true, false]) func notSupportedAnswersFastZeroAlone(isLocal: Bool) throws {
    let faults = FaultBackend(memory(isLocal: isLocal))
    let server = try InProcessServer(faults)
    let client = try server.client()
    for kind in BackendCall.Kind.allCases { faults.fail(kind, count: .max, with: .notSupported) }
    let fast = try client.call(Cmd.writeZeroes, flags: CmdFlag.fastZero, offset: 0, length: 4096)
    #expect(fast.error == NBDErrno.notSupported)
    // The client throws at any other NBD_ENOTSUP.
    for command in [Cmd.read, Cmd.write, Cmd.trim, Cmd.writeZeroes, Cmd.cache, Cmd.blockStatus, Cmd.flush] {
      let length: UInt32 = command == Cmd.flush ? 0 : 4096
      let payload = command == Cmd.write ? bytes(1, 4096) : nil
      let reply = try client.call(command, offset: 0, length: length, payload: payload)
      #expect([NBDErrno.invalid, NBDErrno.io].contains(reply.error), "\(command)")
    }
  }

  /// The client throws at an error that is not defined, and at those that the server never means.
  @Test func everyErrnoIsAnErrorOfTheProtocol() throws {
    let faults = FaultBackend(memory(isLocal: true))
    let server = try InProcessServer(faults)
    let client = try server.client()
    for number: CInt in 1...133 where number != EINTR && number != EAGAIN {
      let errno = Errno(rawValue: number)
      faults.fail(.write, with: errno)
      let reply = try client.write(0, [1])
      #expect(reply.error == NBDError(errno).rawValue || errno == .notSupported && reply.error == NBDErrno.invalid)
      #expect(![NBDErrno.noMemory, NBDErrno.overflow, NBDErrno.shutdown].contains(reply.error))
    }
  }

  /// Nagle would hold a small reply back until the one before it is acknowledged.
  @Test func smallRepliesLeaveAtOnceOnTCP() throws {
    let server = try InProcessServer(memory(isLocal: true))
    let any = try #require(SocketAddress.resolve(host: "127.0.0.1", port: 0).first)
    let port = try #require(server.server.listen(tcp: any).port)
    let client = RawClient(try RawSocket(loopback: port))
    try client.enter()
    // The other end is a descriptor of this process.
    let accepted = (3..<4096 as Range<Int32>).filter {
      guard let local = try? Sockets.localAddress($0) else { return false }
      return local.port == port && (try? Sockets.option($0, CInt(SOL_SOCKET), SO_ACCEPTCONN)) == 0
    }
    #expect(accepted.count == 1)
    for descriptor in accepted {
      #expect(try Sockets.option(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY) != 0)
    }
  }
}
