"""Receivers: one file each, one protocol (`commin.receivers.base.Receiver`)."""
