"""A token's session over WebRTC: LiveKit's signalling, and frames over a data channel.

Only what is here imports aiortc and LiveKit's protobufs (extra `webrtc`), and nothing imports this
package before the first session comes: `rtc.py`, the door, does.
"""
