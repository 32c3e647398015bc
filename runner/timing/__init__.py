"""When a schedule is due: durations, cron expressions, timetables. Pure: now is an argument, all times are UTC."""
