"""The public interface: sessions, their options, values, and what a session tells about its model."""
