"""The evidence pack: what a report rests on, in one folder that anybody can check without the study."""
