// The numbers that open messages.

/// Magic numbers, spec: "Newstyle negotiation", "Fixed newstyle negotiation", "Transmission".
enum Magic {
  /// "NBDMAGIC", first bytes of a server.
  static let initPassword: UInt64 = 0x4e42_444d_4147_4943
  /// "IHAVEOPT", in the greeting and before each option.
  static let option: UInt64 = 0x4948_4156_454f_5054
  static let optionReply: UInt64 = 0x0003_e889_0455_65a9
  static let request: UInt32 = 0x2560_9513
  static let simpleReply: UInt32 = 0x6744_6698
  static let structuredReply: UInt32 = 0x668e_33ef
}
