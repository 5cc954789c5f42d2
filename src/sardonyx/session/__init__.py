"""The surface that users see: sessions, their options, and what they tell about a model."""
